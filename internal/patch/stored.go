package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Artifact is an object in PATCHES.
type Artifact struct {
	Name string    `json:"name"`
	NUID string    `json:"nuid"` // names its chunks
	Size int64     `json:"size"`
	At   time.Time `json:"-"` // when it was stored, by the Booster's clock
}

// IsHome tells whether it was stored for a new server, and is announced to nobody.
func (a Artifact) IsHome() bool { return strings.HasPrefix(a.Name, homePrefix) }

// Stored lists what is in PATCHES. Like bus.Nodes it makes no consumer.
func Stored(ctx context.Context, js jetstream.JetStream) (list []Artifact, err error) {
	stream, err := js.Stream(ctx, bus.ObjectStream(bus.ObjectPatches))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.ObjectPatches, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(bus.ObjectSubjects))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", bus.ObjectPatches, err)
	}
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		msg, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", bus.ObjectPatches, err)
		}
		a := Artifact{At: msg.Time}
		if json.Unmarshal(msg.Data, &a) == nil && a.Name != "" {
			list = append(list, a)
		}
	}
	return list, nil
}

// Remove takes an artifact out of PATCHES. It purges what the object store would mark as deleted, because a mark is a message,
// and a store that is full takes none.
func Remove(ctx context.Context, js jetstream.JetStream, a Artifact) error {
	stream, err := js.Stream(ctx, bus.ObjectStream(bus.ObjectPatches))
	if err == nil && a.NUID != "" {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(bus.ChunksSubject(a.NUID)))
	}
	if err == nil { // last: while it is there, somebody knows of the chunks
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(bus.ObjectSubject(a.Name)))
	}
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", a.Name, bus.ObjectPatches, err)
	}
	return nil
}

// ForgetHomes removes what was stored for new servers longer than HomesKept ago. One that is reading it asks again.
func ForgetHomes(ctx context.Context, js jetstream.JetStream) error {
	list, err := Stored(ctx, js)
	if err != nil {
		return err
	}
	for _, a := range list {
		if !a.IsHome() || time.Since(a.At) < HomesKept {
			continue
		}
		if err := Remove(ctx, js, a); err != nil {
			return err
		}
	}
	return nil
}

// Unstored returns the announcements whose artifact is not in PATCHES as they announce it: somebody removed it, stored another one under
// its name, or removed a part of it. Unstored compares sizes, digests and the number of chunks, and reads no content.
func Unstored(ctx context.Context, js jetstream.JetStream, announced []Announcement) (list []Announcement, err error) {
	objects, err := js.ObjectStore(ctx, bus.ObjectPatches)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.ObjectPatches, err)
	}
	stream, err := js.Stream(ctx, bus.ObjectStream(bus.ObjectPatches))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.ObjectStream(bus.ObjectPatches), err)
	}
	for _, a := range announced {
		if a.Check() != nil { // no agent looks for an artifact then
			continue
		}
		object, err := lookUp(ctx, objects, a)
		if errors.Is(err, ErrMissing) {
			list = append(list, a)
			continue
		}
		if err != nil {
			return nil, err
		}
		subject := bus.ChunksSubject(object.NUID)
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return nil, fmt.Errorf("count the chunks of %s: %w", a.Object, err)
		}
		if info.State.Subjects[subject] != uint64(object.Chunks) {
			list = append(list, a)
		}
	}
	return list, nil
}
