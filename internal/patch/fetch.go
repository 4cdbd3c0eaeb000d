package patch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// ErrMissing is returned when the store has no artifact, or only a part of it, or another one than was announced. A Booster
// that is just taking over may say so for a moment.
var ErrMissing = errors.New("artifact is not in the store as it was announced")

// Fetch writes an announced artifact to w, chunk by chunk, and checks its size and digest.
//
// It asks for each chunk by itself instead of reading through the object store's own consumer: every question has a deadline,
// a stop ends it at once, and a Booster that moves meanwhile costs one error instead of a reader that hangs.
func Fetch(ctx context.Context, js jetstream.JetStream, a Announcement, w io.Writer) error {
	objects, err := js.ObjectStore(ctx, bus.ObjectPatches)
	if err != nil {
		return fmt.Errorf("open %s: %w", bus.ObjectPatches, err)
	}
	info, err := lookUp(ctx, objects, a)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, bus.ObjectStream(bus.ObjectPatches))
	if err != nil {
		return fmt.Errorf("open %s: %w", bus.ObjectStream(bus.ObjectPatches), err)
	}
	sum := sha256.New()
	var size int64
	seq := uint64(1)
	for range info.Chunks {
		msg, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(bus.ChunksSubject(info.NUID)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return ErrMissing
		}
		if err != nil {
			return fmt.Errorf("read %s from %s: %w", a.Object, bus.ObjectPatches, err)
		}
		seq = msg.Sequence + 1
		size += int64(len(msg.Data))
		sum.Write(msg.Data)
		if size > a.Size {
			return ErrMissing
		}
		if _, err := w.Write(msg.Data); err != nil {
			return fmt.Errorf("write artifact: %w", err)
		}
	}
	if size != a.Size || hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		return ErrMissing
	}
	return nil
}

// lookUp is what the store says of an announced artifact, or ErrMissing if it has another one or none.
func lookUp(ctx context.Context, objects jetstream.ObjectStore, a Announcement) (*jetstream.ObjectInfo, error) {
	info, err := objects.GetInfo(ctx, a.Object)
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound), err == nil && (info.Size != uint64(a.Size) || !sameDigest(info.Digest, a.SHA256)):
		return nil, ErrMissing
	case err != nil:
		return nil, fmt.Errorf("look up %s in %s: %w", a.Object, bus.ObjectPatches, err)
	}
	return info, nil
}
