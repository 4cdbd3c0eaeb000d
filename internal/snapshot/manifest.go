package snapshot

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
)

// Format is the version of the layout of a snapshot. It grows when an older program would misread a newer snapshot.
const Format = 1

const (
	manifestName     = "manifest.json"
	streamsDir       = "streams"
	maxManifestBytes = 64 << 20
)

// Manifest says what a snapshot holds.
type Manifest struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`      // of this snapshot
	Created time.Time `json:"created"` // when the first stream was asked for
	Version string    `json:"version"` // of omflow-booster
	Server  string    `json:"server"`  // name and version of the NATS server that wrote it
	Streams []Stream  `json:"streams"` // in the order of a restore
	SHA256  string    `json:"sha256"`  // of this document without this line
}

// Stream is one stream of a snapshot. Counts are those of the file, not those that the server announced before it wrote it: messages
// that were acknowledged meanwhile are in neither.
type Stream struct {
	Name      string     `json:"name"`
	Messages  uint64     `json:"messages"`
	Bytes     uint64     `json:"bytes"`     // as the server counts them: messages with headers, subjects and the store's own overhead
	FirstSeq  uint64     `json:"first_seq"` // one after LastSeq when there are no messages
	LastSeq   uint64     `json:"last_seq"`
	FirstTime time.Time  `json:"first_time,omitzero"`
	LastTime  time.Time  `json:"last_time,omitzero"` // unset when the message at LastSeq is gone
	Consumers []Consumer `json:"consumers"`

	File   string          `json:"file"`   // inside the snapshot
	Size   int64           `json:"size"`   // of the file
	SHA256 string          `json:"sha256"` // of the file
	Config json.RawMessage `json:"config"` // of the stream, as the server wrote it, with fields that this program may not know
}

// Consumer is one consumer of a stream.
type Consumer struct {
	Name        string `json:"name"`
	Durable     bool   `json:"durable"`
	Delivered   uint64 `json:"delivered"`   // sequence of the stream up to which messages were delivered
	AckFloor    uint64 `json:"ack_floor"`   // sequence of the stream up to which everything was acknowledged
	Pending     int    `json:"pending"`     // delivered, not acknowledged
	Redelivered int    `json:"redelivered"` // of those, delivered more than once
}

// Totals adds up the streams.
func (m Manifest) Totals() (messages, bytes uint64) {
	for _, s := range m.Streams {
		messages, bytes = messages+s.Messages, bytes+s.Bytes
	}
	return messages, bytes
}

func newID() string { return strings.ToLower(rand.Text()) }

// encode seals the manifest and returns its document.
func (m *Manifest) encode() ([]byte, error) {
	sum, err := m.digest()
	if err != nil {
		return nil, err
	}
	m.SHA256 = sum
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", manifestName, err)
	}
	return append(data, '\n'), nil
}

// digest covers the manifest itself: a flipped bit in a configuration would otherwise be restored.
func (m Manifest) digest() (string, error) {
	m.SHA256 = ""
	data, err := json.Marshal(m) // compact, so that indentation does not count
	if err != nil {
		return "", fmt.Errorf("write %s: %w", manifestName, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// decodeManifest reads a document and fails with ErrInvalid unless it can be trusted.
func decodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	var version struct{ Format int } // first alone: a newer format need not fit the rest
	if err := json.Unmarshal(data, &version); err != nil {
		return m, invalid("%s cannot be read: %w", manifestName, err)
	}
	if version.Format > Format {
		return m, invalid("it was made by a newer omflow-booster (format %d, this one knows %d); use that one to restore it", version.Format,
			Format)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, invalid("%s cannot be read: %w", manifestName, err)
	}
	sum, err := m.digest()
	if err != nil {
		return m, err
	}
	if sum != m.SHA256 {
		return m, invalid("%s was changed or is damaged", manifestName)
	}
	return m, m.validate()
}

func (m Manifest) validate() error {
	if m.Format < 1 || m.ID == "" {
		return invalid("%s has no format or no id", manifestName)
	}
	names, files := map[string]bool{}, map[string]bool{}
	for _, s := range m.Streams {
		var config struct{ Name string }
		if err := json.Unmarshal(s.Config, &config); err != nil || config.Name != s.Name || s.Name == "" {
			return invalid("the configuration of stream %q does not fit its name", s.Name)
		}
		if dir, file := path.Split(s.File); dir != streamsDir+"/" || file != fileToken(file) {
			return invalid("%q is no name for the file of stream %s", s.File, s.Name)
		}
		if names[s.Name] || files[s.File] || s.Size < 0 {
			return invalid("stream %s is there twice", s.Name)
		}
		names[s.Name], files[s.File] = true, true
	}
	return nil
}

// fileOf names the file of the stream with this place in the snapshot. The number keeps names apart that differ in case alone.
func fileOf(place int, stream string) string {
	return fmt.Sprintf("%s/%02d-%s.s2", streamsDir, place+1, fileToken(stream))
}

// fileToken keeps what every file system takes.
func fileToken(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, s)
}
