package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
)

// contents is what the file of a stream holds.
type contents struct {
	messages, bytes, firstSeq, lastSeq uint64
	firstTime, lastTime                time.Time
	consumers                          []Consumer
}

// inspect reads the file of a stream from its first byte to its end mark, in constant memory. It fails with ErrInvalid, unless r failed.
func inspect(r io.Reader) (contents, error) {
	source := &sourceReader{r: r}
	c, err := scan(source)
	if err != nil && source.err != nil {
		return c, source.err
	}
	return c, err
}

func scan(r io.Reader) (contents, error) {
	c := contents{consumers: []Consumer{}}
	entries := archive.NewReader(s2.NewReader(r))
	head, err := entries.Next()
	switch {
	case errors.Is(err, archive.ErrInvalidArchive):
		return c, invalid("its streams are not in the format of NATS 2.15 or newer")
	case err != nil:
		return c, damaged(err)
	case head.Name != "state.json":
		return c, invalid("a stream begins with %q", head.Name)
	}
	var begin state
	if err := json.NewDecoder(entries).Decode(&begin); err != nil {
		return c, damaged(err)
	}
	for range begin.Consumers {
		if err := c.addConsumer(entries); err != nil {
			return c, err
		}
	}
	c.firstSeq, c.lastSeq = begin.LastSeq+1, begin.LastSeq
	for {
		h, err := entries.Next()
		if err != nil {
			return c, damaged(err)
		}
		if h.Sequence == 0 {
			if *h != (archive.Header{}) {
				return c, invalid("a stream has %q among its messages", h.Name)
			}
			break // the end mark: without it the server was interrupted
		}
		if h.Sequence > begin.LastSeq {
			return c, invalid("a stream has message %d after its last, %d", h.Sequence, begin.LastSeq)
		}
		c.addMessage(h)
	}
	if _, err := entries.Next(); !errors.Is(err, io.EOF) {
		return c, invalid("a stream goes on after its end mark")
	}
	return c, nil
}

func (c *contents) addConsumer(entries *archive.Reader) error {
	type pair struct {
		Stream uint64 `json:"stream_seq"`
	}
	var entry struct {
		Config struct {
			Durable string `json:"durable_name"`
		} `json:"config"`
		State struct {
			Delivered   pair                `json:"delivered"`
			AckFloor    pair                `json:"ack_floor"`
			Pending     map[uint64]struct{} `json:"pending"`
			Redelivered map[uint64]uint64   `json:"redelivered"`
		} `json:"state"`
	}
	h, err := entries.Next()
	if err != nil {
		return damaged(err)
	}
	name, ok := strings.CutPrefix(h.Name, "consumers/")
	if !ok {
		return invalid("a stream has %q among its consumers", h.Name)
	}
	if err := json.NewDecoder(entries).Decode(&entry); err != nil {
		return damaged(err)
	}
	c.consumers = append(c.consumers, Consumer{
		Name: name, Durable: entry.Config.Durable != "",
		Delivered: entry.State.Delivered.Stream, AckFloor: entry.State.AckFloor.Stream,
		Pending: len(entry.State.Pending), Redelivered: len(entry.State.Redelivered),
	})
	return nil
}

func (c *contents) addMessage(h *archive.Header) {
	at := time.Unix(0, h.Timestamp).UTC()
	if c.messages == 0 {
		c.firstSeq, c.firstTime = h.Sequence, at
	}
	if h.Sequence == c.lastSeq {
		c.lastTime = at
	}
	c.messages++
	c.bytes += storedBytes(len(h.Name), h.HeaderSize, h.PayloadSize)
}

// storedBytes is how the server's file store counts a message (filestore.go: fileStoreMsgSizeRaw). A test compares it with a server.
func storedBytes(subject int, header, payload int64) uint64 {
	const record, headerLength = 30, 4
	if header > 0 {
		header += headerLength
	}
	return uint64(record + int64(subject) + header + payload)
}

// differs says in what the contents are not those that the manifest promises.
func (c contents) differs(s Stream) error {
	if c.messages != s.Messages || c.bytes != s.Bytes || c.firstSeq != s.FirstSeq || c.lastSeq != s.LastSeq ||
		len(c.consumers) != len(s.Consumers) {
		return fmt.Errorf("it holds %d messages from %d to %d and %d consumers, and not %d from %d to %d and %d",
			c.messages, c.firstSeq, c.lastSeq, len(c.consumers), s.Messages, s.FirstSeq, s.LastSeq, len(s.Consumers))
	}
	return nil
}

func damaged(err error) error {
	switch {
	case errors.Is(err, ErrInvalid):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("a stream ends too early")
	}
	return invalid("a stream is damaged: %w", err)
}

// sourceReader remembers whether the medium failed: then the snapshot itself may be good.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
