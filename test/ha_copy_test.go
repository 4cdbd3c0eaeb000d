//go:build linux

package test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// copyOfStream is the messages of a stream that one Booster holds, by their places.
type copyOfStream map[uint64]message

type message struct {
	subject string
	digest  [sha256.Size]byte // of when it came, headers and body
}

// read has a Booster lead WORK, and reads all that it holds. Nobody writes meanwhile. (Of another stream the active would take
// the lead back.)
func (b *booster) read(stream string) copyOfStream { return b.readAs(stream, b.name) }

// readLed reads a stream from its leader.
func (b *booster) readLed(stream string) copyOfStream { return b.readAs(stream, "") }

func (b *booster) readAs(stream, leader string) (messages copyOfStream) {
	b.t.Helper()
	c := b.dialTo(b.only())
	testkit.Await(b.t, growTimeout, stream+" to be read through "+b.name, func(ctx context.Context) (err error) {
		messages, err = readCopy(ctx, c, stream, leader)
		return err
	})
	return messages
}

// readCopy is one try: leadership may have to move first, or move on the way.
func readCopy(ctx context.Context, c *bus.Client, stream, leader string) (copyOfStream, error) {
	look, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	s, err := c.JS.Stream(look, stream)
	if err != nil {
		return nil, err
	}
	before := s.CachedInfo()
	if leader == "" && before.Cluster != nil {
		leader = before.Cluster.Leader
	}
	if before.Cluster != nil && (leader == "" || before.Cluster.Leader != leader) {
		_, err := c.NC.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, leader), lookLimit)
		return nil, errors.Join(fmt.Errorf("%q leads", before.Cluster.Leader), err)
	}
	messages, err := readAll(ctx, c.NC, stream, before.State.FirstSeq, before.State.LastSeq)
	if err != nil {
		return nil, err
	}
	last, cancelLast := context.WithTimeout(ctx, lookLimit)
	defer cancelLast()
	after, err := s.Info(last)
	if err != nil {
		return nil, err
	}
	if after.State.Msgs != uint64(len(messages)) || after.Cluster != nil && after.Cluster.Leader != leader {
		return nil, fmt.Errorf("%d messages were read, %d are there, %+v", len(messages), after.State.Msgs, after.Cluster)
	}
	return messages, nil
}

// readAll reads the messages of a stream from its leader, who alone answers this, and from its own copy. A direct get may be
// answered by anybody.
func readAll(ctx context.Context, nc *nats.Conn, stream string, first, last uint64) (copyOfStream, error) {
	const atOnce = 500
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	messages := copyOfStream{}
	for next := max(1, first); next <= last; next += atOnce { // an empty stream begins at 0
		asked := min(atOnce, last-next+1)
		for place := next; place < next+asked; place++ {
			if err := nc.PublishRequest("$JS.API.STREAM.MSG.GET."+stream, inbox, fmt.Appendf(nil, `{"seq":%d}`, place)); err != nil {
				return nil, err
			}
		}
		for range asked {
			answer, cancel := context.WithTimeout(ctx, lookLimit)
			msg, err := sub.NextMsgWithContext(answer)
			cancel()
			if err != nil {
				return nil, fmt.Errorf("after message %d: %w", next-1, err)
			}
			if err := messages.take(msg.Data); err != nil {
				return nil, err
			}
		}
	}
	return messages, nil
}

// take adds the message of an answer, if there is one.
func (c copyOfStream) take(answer []byte) error {
	const notFound = 10037
	var a struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string          `json:"subject"`
			Place   uint64          `json:"seq"`
			Headers string          `json:"hdrs"`
			Data    string          `json:"data"`
			Time    json.RawMessage `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return err
	}
	switch m := a.Message; {
	case a.Error != nil && a.Error.ErrorCode == notFound:
		return nil
	case a.Error != nil:
		return a.Error
	default:
		c[m.Place] = message{m.Subject, sha256.Sum256(fmt.Appendf(nil, "%s %s %s", m.Time, m.Headers, m.Data))}
	}
	return nil
}

// differences counts the places at which two copies do not hold the same message.
func differences(one, other copyOfStream) (n int) {
	for place := range one {
		if own, there := other[place]; !there || own != one[place] {
			n++
		}
	}
	for place := range other {
		if _, there := one[place]; !there {
			n++
		}
	}
	return n
}

// compareCopies says which acknowledged writes a copy lacks, and where the copies are not the same.
func compareCopies(accepted map[uint64]string, copies map[string]copyOfStream) error {
	var errs []error
	names := slices.Sorted(maps.Keys(copies))
	for _, name := range names {
		lost := 0
		for place, subject := range accepted {
			if copies[name][place].subject != subject {
				lost++
			}
		}
		if lost > 0 {
			errs = append(errs, fmt.Errorf("%s lacks %d of %d acknowledged messages", name, lost, len(accepted)))
		}
		if n := differences(copies[names[0]], copies[name]); n > 0 {
			errs = append(errs, fmt.Errorf("%s and %s differ in %d messages", names[0], name, n))
		}
	}
	if len(copies) < 2 || len(accepted) == 0 {
		errs = append(errs, fmt.Errorf("%d copies and %d acknowledged messages: nothing to compare", len(copies), len(accepted)))
	}
	return errors.Join(errs...)
}

// The scenarios are only worth what the comparison sees: each thing that must not be is made, and has to be found.
func TestComparisonSeesWhatMustNotBe(t *testing.T) {
	t.Parallel()
	accepted := map[uint64]string{1: "a", 2: "b"}
	content := func(body string) [sha256.Size]byte { return sha256.Sum256([]byte(body)) }
	whole := copyOfStream{1: {"a", content("x")}, 2: {"b", content("x")}, 3: {"not acknowledged", content("x")}}
	changed := func(change func(copyOfStream)) copyOfStream {
		c := maps.Clone(whole)
		change(c)
		return c
	}
	for name, c := range map[string]struct {
		one, other copyOfStream
		says       []string
	}{
		"nothing": {whole, whole, nil},
		"lost in both": {
			changed(func(c copyOfStream) { delete(c, 2) }), changed(func(c copyOfStream) { delete(c, 2) }),
			[]string{"one lacks 1", "other lacks 1"},
		},
		"lost in one":      {changed(func(c copyOfStream) { delete(c, 2) }), whole, []string{"one lacks 1", "differ in 1"}},
		"lost in other":    {whole, changed(func(c copyOfStream) { delete(c, 2) }), []string{"other lacks 1", "differ in 1"}},
		"another in place": {changed(func(c copyOfStream) { c[2] = message{"c", content("x")} }), whole, []string{"one lacks 1", "differ in 1"}},
		"another content":  {whole, changed(func(c copyOfStream) { c[3] = message{"not acknowledged", content("y")} }), []string{"differ in 1"}},
		"one too many":     {whole, changed(func(c copyOfStream) { c[4] = message{"d", content("x")} }), []string{"differ in 1"}},
		"nothing read":     {nil, nil, []string{"one lacks 2", "other lacks 2"}},
	} {
		checkSays(t, name, compareCopies(accepted, map[string]copyOfStream{"one": c.one, "other": c.other}), c.says)
	}
	checkSays(t, "one copy", compareCopies(accepted, map[string]copyOfStream{"one": whole}), []string{"nothing to compare"})
}

// checkSays compares an error with the parts that it must have; none means that there must be no error.
func checkSays(t *testing.T, name string, err error, parts []string) {
	t.Helper()
	if err != nil && len(parts) == 0 {
		t.Errorf("%s: %s", name, err)
	}
	for _, part := range parts {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%s: the comparison says %v, want %q", name, err, part)
		}
	}
}
