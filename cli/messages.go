package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// detail is one message in full.
type detail struct {
	bus.StepInfo
	Subject string            `json:"subject"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body"` // JSON as it is, or a string
}

func describeDetail(m *jetstream.RawStreamMsg) detail {
	d := detail{StepInfo: bus.DescribeStep(m), Subject: m.Subject, Headers: headers(m)}
	switch {
	case len(m.Data) == 0: // oversized or malformed: the item was not kept
	case json.Valid(m.Data):
		d.Body = json.RawMessage(m.Data)
	default:
		d.Body = string(m.Data)
	}
	return d
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

// print writes a detail for people: facts, headers, body.
func (d detail) print(w io.Writer, now time.Time) error {
	t := newTable(w)
	t.row("Step", d.ID)
	t.row("Kind", d.Kind)
	t.row("Flow", d.Flow)
	t.row("Key", d.Ticket)
	t.row("Since", d.At.Format(time.RFC3339)+" ("+text.Age(now.Sub(d.At))+" ago)")
	t.row("Subject", d.Subject)
	t.row("Sequence", d.Sequence)
	t.row("Size", text.Size(d.Bytes))
	names := make([]string, 0, len(d.Headers))
	for name := range d.Headers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.row(name, d.Headers[name])
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", d.bodyText())
	return err
}

func (d detail) bodyText() string {
	switch body := d.Body.(type) {
	case json.RawMessage:
		return text.Printable(indent(body))
	case string:
		return text.Printable(body)
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
