package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unsafe" // go:linkname

	"github.com/nats-io/nats-server/v2/server"
)

// The server answers for the contents of a stream through its leader only, or through any replica that it likes: nothing that
// it offers reads one particular replica. Its files cannot be read beside it either, because what a limit has removed is gone
// from its memory alone. So the audit asks the store of the server in this process. These two names have no promise of the
// server's makers behind them: when an update changes them, every test of the audit fails.
//
//go:linkname lookupStream github.com/nats-io/nats-server/v2/server.(*Account).lookupStream
func lookupStream(account *server.Account, stream string) (unsafe.Pointer, error)

//go:linkname storeOf github.com/nats-io/nats-server/v2/server.(*stream).Store
func storeOf(stream unsafe.Pointer) server.StreamStore

// localStore is this member's own copy of a stream.
func localStore(s *server.Server, stream string) (server.StreamStore, error) {
	found, err := lookupStream(s.GlobalAccount(), stream)
	if err != nil {
		return nil, fmt.Errorf("own copy of %s: %w", stream, err)
	}
	return storeOf(found), nil
}

// contents are digests by sequence.
type contents map[uint64]uint64

// readContents reads the messages with from ≤ sequence < to. What it returns ends where the store cannot be read, and
// unreadable says why; next is the first message at or after to, 0 when there is none. The server checks its own checksum of
// each message as it reads.
func readContents(store server.StreamStore, from, to uint64) (c contents, next uint64, unreadable error) {
	c = contents{}
	var buffer server.StoreMsg
	for seq := from; ; {
		msg, at, err := store.LoadNextMsg("", false, seq, &buffer)
		switch {
		case errors.Is(err, server.ErrStoreEOF):
			return c, 0, nil
		case err != nil:
			return c, to, fmt.Errorf("cannot be read from sequence %d: %w", seq, err)
		case at >= to:
			return c, at, nil
		}
		c[at] = digest(msg)
		seq = at + 1
	}
}

// digest is never 0, which stands for a message that is not there. The fields have no accessors, but may be read.
func digest(msg *server.StoreMsg) uint64 {
	v := reflect.ValueOf(msg).Elem()
	hash := sha256.New()
	var size [8]byte
	for _, part := range [][]byte{[]byte(v.FieldByName("subj").String()), v.FieldByName("hdr").Bytes(), v.FieldByName("msg").Bytes()} {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		hash.Write(size[:])
		hash.Write(part)
	}
	binary.BigEndian.PutUint64(size[:], uint64(v.FieldByName("ts").Int()))
	hash.Write(size[:])
	return binary.BigEndian.Uint64(hash.Sum(nil)) | 1
}

// pack makes contents fit for a message: 16 bytes each.
func (c contents) pack() []byte {
	data := make([]byte, 0, 16*len(c))
	for seq, digest := range c {
		data = binary.BigEndian.AppendUint64(data, seq)
		data = binary.BigEndian.AppendUint64(data, digest)
	}
	return data
}

func unpack(data []byte) contents {
	c := make(contents, len(data)/16)
	for ; len(data) >= 16; data = data[16:] {
		c[binary.BigEndian.Uint64(data)] = binary.BigEndian.Uint64(data[8:])
	}
	return c
}
