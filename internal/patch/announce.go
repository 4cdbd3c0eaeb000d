package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Announcement is a message on PATCH. Its place in the stream is the patch's place in the order of all patches.
type Announcement struct {
	ID string `json:"id"`
	StoredArtifact
	From      string    `json:"from"`
	To        string    `json:"to"`
	Author    string    `json:"author"`
	Note      string    `json:"note"`
	Created   time.Time `json:"created"`
	Files     int       `json:"files"`
	Deletions int       `json:"deletions"`
	Bytes     int64     `json:"bytes"`            // of the files, unpacked
	Reverts   string    `json:"undoes,omitempty"` // id of the patch that it reverts

	Seq uint64 `json:"-"` // in PATCH
}

// StoredArtifact is where the artifact of a patch is, and what it is like.
type StoredArtifact struct {
	Object string `json:"object"` // name in PATCHES
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// announcementOf is what a manifest lets be announced.
func announcementOf(m Manifest) Announcement {
	return Announcement{
		ID: m.ID, From: m.From, To: m.To, Author: m.Author, Note: m.Note, Created: m.Created,
		Files: len(m.Files), Deletions: len(m.Deletions), Bytes: m.Bytes(), Reverts: m.Reverts,
	}
}

// CheckManifest refuses an announcement that says other things than the manifest, which is signed while the announcement is not.
func (a Announcement) CheckManifest(m Manifest) error {
	said, signed := a, announcementOf(m)
	said.StoredArtifact, said.Seq = StoredArtifact{}, 0 // no part of the manifest
	if said.Created.Equal(signed.Created) {
		said.Created = signed.Created
	}
	if said != signed {
		return invalid("its artifact is %s (%s → %s), which is not what was announced", m.ID, m.From, m.To)
	}
	return nil
}

// Check refuses an announcement that an agent cannot act upon. Its id becomes the name of a file before anything that is signed is read.
func (a Announcement) Check() error {
	switch {
	case !ValidID(a.ID):
		return invalid("its announcement names the id %q", a.ID)
	case a.Object == "" || a.Size <= 0 || !isSHA256(a.SHA256):
		return invalid("its announcement names no artifact")
	}
	return nil
}

// ErrNoMore is returned by Next when no announcement follows yet.
var ErrNoMore = errors.New("no further patch is announced")

// Next returns the first announcement of PATCH at seq or after it, or ErrNoMore. A message that is no announcement comes back
// with an error that matches ErrInvalid, and with its ID and Seq, so that it can be reported and passed over.
func Next(ctx context.Context, stream jetstream.Stream, seq uint64) (Announcement, error) {
	msg, err := stream.GetMsg(ctx, max(seq, 1), jetstream.WithGetMsgSubject(bus.Announcements))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Announcement{}, ErrNoMore
	}
	if err != nil {
		return Announcement{}, fmt.Errorf("read %s: %w", bus.StreamPatch, err)
	}
	var a Announcement
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return Announcement{ID: bus.SubjectID(msg.Subject), Seq: msg.Sequence}, invalid("its announcement cannot be read: %w", err)
	}
	a.Seq = msg.Sequence
	err = a.Check()
	if err == nil && bus.SubjectID(msg.Subject) != a.ID {
		err = invalid("its announcement names the id %q", a.ID)
	}
	if err != nil {
		a.ID = bus.SubjectID(msg.Subject)
		return a, err
	}
	return a, nil
}

// List returns all announcements in the order in which agents apply them. A patch that was announced again is listed once,
// at its first place.
func List(ctx context.Context, js jetstream.JetStream) ([]Announcement, error) {
	stream, err := js.Stream(ctx, bus.StreamPatch)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.StreamPatch, err)
	}
	all, err := ListOf(ctx, stream)
	if err != nil {
		return nil, err
	}
	var list []Announcement
	seen := make(map[string]bool)
	for _, a := range all {
		if !seen[a.ID] {
			seen[a.ID] = true
			list = append(list, a)
		}
	}
	return list, nil
}

// ListOf returns what stands in PATCH, message by message. Of one that is no announcement there is no more than its ID and Seq.
func ListOf(ctx context.Context, stream jetstream.Stream) (list []Announcement, err error) {
	for seq := uint64(1); ; {
		a, err := Next(ctx, stream, seq)
		if errors.Is(err, ErrNoMore) {
			return list, nil
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			return nil, err
		}
		seq = a.Seq + 1
		list = append(list, a)
	}
}
