package patch

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// How long storing an artifact may take: some seconds, plus its size at the slowest rate that we put up with.
const (
	transferBase = time.Minute
	transferRate = 256 << 10 // bytes a second
)

// Publish checks an artifact, stores it, and announces it: every agent that trusts its signer applies it, after all patches
// announced before. The announcement comes last, so an agent that reads it finds the artifact. Publishing the same artifact
// again does no harm.
func Publish(ctx context.Context, js jetstream.JetStream, artifact string, trust Trust,
	progress func(done, total int64),
) (Announcement, error) {
	a, err := Store(ctx, js, artifact, trust, progress)
	if err != nil {
		return a, err
	}
	return Announce(ctx, js, a)
}

// Store checks an artifact and stores it, so that it can be announced. progress, if not nil, is called with the bytes stored so far, in one
// goroutine. What agents would refuse is not stored and returns an error that matches ErrInvalid.
func Store(ctx context.Context, js jetstream.JetStream, artifact string, trust Trust,
	progress func(done, total int64),
) (Announcement, error) {
	f, err := os.Open(artifact)
	if err != nil {
		return Announcement{}, fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = f.Close() }()
	a, m, err := examine(f, DefaultLimit, trust)
	if err == nil {
		err = m.checkWindows(ctx, js)
	}
	if err != nil {
		return a, err
	}
	if err := store(ctx, js, f, a, progress); err != nil {
		return a, fmt.Errorf("store patch %s in %s: %w", a.ID, bus.ObjectPatches, noRoom(err))
	}
	return a, nil
}

// Announce tells every agent of a patch that is stored, and returns it with its place in the order of all patches.
func Announce(ctx context.Context, js jetstream.JetStream, a Announcement) (Announcement, error) {
	return AnnounceOnce(ctx, js, a, a.ID)
}

// AnnounceOnce is Announce for a patch that several hosts may have built of the same files, each under its own id: the first
// one that names a reason is announced, and the others are not. The stream remembers a reason for some minutes.
func AnnounceOnce(ctx context.Context, js jetstream.JetStream, a Announcement, reason string) (Announcement, error) {
	data, err := json.Marshal(a)
	if err != nil {
		return a, fmt.Errorf("announce patch %s: %w", a.ID, err)
	}
	ack, err := js.Publish(ctx, bus.AnnounceSubject(a.ID), data,
		jetstream.WithMsgID(reason), jetstream.WithExpectStream(bus.StreamPatch), jetstream.WithRetryAttempts(5))
	if err != nil {
		return a, fmt.Errorf("announce patch %s: %w; it is stored, publish it again", a.ID, noRoom(err))
	}
	a.Seq = ack.Sequence
	return a, nil
}

// noRoom adds to the error of a full stream what to do about it. Any other error stays as it is.
func noRoom(err error) error {
	if !bus.IsFull(err) {
		return err
	}
	return fmt.Errorf("the Booster has no room left for patches: `omflow-booster status` says what keeps the room, and how to make some; "+
		"then publish again (%w)", err)
}

// homePrefix begins the names of objects that are for new servers.
const homePrefix = "home-"

// HomesKept is how long what was stored for new servers stays: long enough for the last server that got it to read it.
const HomesKept = 30 * time.Minute

// examine checks an artifact and returns what is to be announced of it.
func examine(f *os.File, limit int64, trust Trust) (a Announcement, m Manifest, err error) {
	sum := sha256.New()
	if m, err = Verify(io.TeeReader(f, sum), limit, trust); err != nil {
		return a, m, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return a, m, fmt.Errorf("read artifact: %w", err)
	}
	a = announcementOf(m)
	a.Object = m.ID
	if m.Whole {
		a.Object = homePrefix + m.ID
	}
	a.Size, a.SHA256 = size, hex.EncodeToString(sum.Sum(nil))
	return a, m, nil
}

func store(ctx context.Context, js jetstream.JetStream, f *os.File, a Announcement, progress func(done, total int64)) error {
	ctx, cancel := context.WithTimeout(ctx, transferBase+time.Duration(a.Size/transferRate)*time.Second)
	defer cancel()
	objects, err := js.ObjectStore(ctx, bus.ObjectPatches)
	if err != nil {
		return err
	}
	if Fetch(ctx, js, a, io.Discard) == nil {
		return nil // stored by an earlier attempt; replacing it would take it from agents that are reading it
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var in io.Reader = f
	if progress != nil {
		in = &progressReader{r: f, total: a.Size, report: progress}
	}
	info, err := objects.Put(ctx, jetstream.ObjectMeta{Name: a.Object, Description: a.Note}, in)
	if err != nil {
		return err
	}
	if !sameDigest(info.Digest, a.SHA256) {
		return fmt.Errorf("the artifact changed while it was stored")
	}
	return nil
}

// sameDigest compares the object store's form of a digest, SHA-256=<base64>, with the hexadecimal one.
func sameDigest(stored, want string) bool {
	raw, err := base64.URLEncoding.DecodeString(strings.TrimPrefix(stored, "SHA-256="))
	return err == nil && hex.EncodeToString(raw) == want
}

type progressReader struct {
	r           io.Reader
	done, total int64
	report      func(done, total int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	p.report(p.done, p.total)
	return n, err
}
