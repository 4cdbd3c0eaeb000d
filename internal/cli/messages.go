package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// openStream looks a stream up; what it says of itself is then fresh in CachedInfo.
func openStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s does not exist: the Booster is not ready yet, or this is no Booster; see `omflow-booster doctor`: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream, nil
}

// messages yields what stream held under filter when it was opened, in sequence order, and ends with the first error.
// It reads one by one, by direct gets: a work queue allows no second consumer, and a reader must not take work away.
func messages(ctx context.Context, stream jetstream.Stream, filter string) iter.Seq2[*jetstream.RawStreamMsg, error] {
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		last := stream.CachedInfo().State.LastSeq // what dies again while we retry is not met twice
		for next := uint64(1); next <= last; {
			m, err := nextMessage(ctx, stream, filter, next)
			if errors.Is(err, jetstream.ErrMsgNotFound) || (err == nil && m.Sequence > last) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(m, nil) {
				return
			}
			next = m.Sequence + 1
		}
	}
}

func nextMessage(ctx context.Context, stream jetstream.Stream, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	m, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	if err != nil {
		return nil, fmt.Errorf("read %s from %d: %w", stream.CachedInfo().Config.Name, from, err)
	}
	return m, nil
}

// findStep returns the message of a step of which only the id is known, or jetstream.ErrMsgNotFound. The subject names
// the id, so the server finds it in its index of subjects.
func findStep(ctx context.Context, stream jetstream.Stream, subject namer, id work.ID) (*jetstream.RawStreamMsg, error) {
	call, cancel := ask(ctx)
	defer cancel()
	info, err := stream.Info(call, jetstream.WithSubjectFilter(filterID(subject, id)))
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", id, err)
	}
	for exact := range info.State.Subjects {
		return lastMessage(ctx, stream, exact)
	}
	return nil, jetstream.ErrMsgNotFound
}

// lastMessage returns the message on an exact subject; there is one at most.
func lastMessage(ctx context.Context, stream jetstream.Stream, exact string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	m, err := stream.GetLastMsgForSubject(ctx, exact)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", exact, err)
	}
	return m, nil
}

// step is what a message on WORK or DEAD says of its step, for lists.
type step struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Flow     string    `json:"flow"`
	Key      string    `json:"key"`
	Sequence uint64    `json:"sequence"`
	Bytes    int       `json:"bytes"`
	At       time.Time `json:"at"` // when the message was stored
}

func describeStep(m *jetstream.RawStreamMsg) step {
	kind, flow, id := subjectTokens(m.Subject)
	if name := m.Header.Get(bus.HeaderKind); name != "" {
		kind = name // as the queue is called; the subject has it in small letters
	}
	return step{
		ID: id, Kind: kind, Flow: flow, Key: m.Header.Get(bus.HeaderKey),
		Sequence: m.Sequence, Bytes: len(m.Data), At: m.Time.UTC(),
	}
}

// letter is one message in full.
type letter struct {
	step
	Subject string            `json:"subject"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body"` // JSON as it is, or a string
}

func describeLetter(m *jetstream.RawStreamMsg) letter {
	l := letter{step: describeStep(m), Subject: m.Subject, Headers: headers(m)}
	switch {
	case len(m.Data) == 0: // oversized or malformed: the item was not kept
	case json.Valid(m.Data):
		l.Body = json.RawMessage(m.Data)
	default:
		l.Body = string(m.Data)
	}
	return l
}

// headers returns what the sender wrote, without what the server adds to an answer (Nats-Stream, Nats-Sequence, …).
func headers(m *jetstream.RawStreamMsg) map[string]string {
	own := map[string]string{}
	for name := range m.Header {
		if name == bus.HeaderMsgID || !strings.HasPrefix(name, "Nats-") {
			own[name] = m.Header.Get(name)
		}
	}
	return own
}

// print writes a letter for people: facts, headers, body.
func (l letter) print(w io.Writer, now time.Time) error {
	t := newTable(w)
	t.row("Step", l.ID)
	t.row("Kind", l.Kind)
	t.row("Flow", l.Flow)
	t.row("Key", l.Key)
	t.row("Since", l.At.Format(time.RFC3339)+" ("+age(now.Sub(l.At))+" ago)")
	t.row("Subject", l.Subject)
	t.row("Sequence", l.Sequence)
	t.row("Size", size(l.Bytes))
	names := make([]string, 0, len(l.Headers))
	for name := range l.Headers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.row(name, l.Headers[name])
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", l.bodyText())
	return err
}

func (l letter) bodyText() string {
	switch body := l.Body.(type) {
	case json.RawMessage:
		return printable(indent(body))
	case string:
		return printable(body)
	default:
		return "(no body: the item could not be carried, see Dead-Error)"
	}
}

func indent(body json.RawMessage) string {
	var out strings.Builder
	if printJSON(&out, body) != nil {
		return string(body)
	}
	return strings.TrimRight(out.String(), "\n")
}

// printable is oneLine for a text of many lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
