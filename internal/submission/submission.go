// Package submission checks the steps of an input and hands them to workers.
package submission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// What goes into one request to a worker, and how long a submission waits.
const (
	chunkItems    = 500
	chunkBytes    = 1 << 20
	submitTimeout = 15 * time.Second // a worker writes 500 rows and publishes 500 messages in it

	resubmitTimeout = time.Minute // without one accepted chunk
	submitPause     = 250 * time.Millisecond
	submitPauseMax  = 5 * time.Second
)

// Item is one checked item of the input.
type Item struct {
	number int // in the input, from 1
	line   int // where it starts
	body   []byte
}

// Parse reads items that stand one after the other (JSON lines, for example) or in one array, and checks them all.
// An error names the line on which the item starts.
func Parse(data []byte) ([]Item, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // editors on Windows put it there
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, fmt.Errorf("line 1: %w: the input is UTF-16: save it as UTF-8", work.ErrMalformed)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	at := position{data: data, line: 1}
	array := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("["))
	if array {
		if _, err := dec.Token(); err != nil {
			return nil, at.wrong(err)
		}
	}
	var items []Item
	for dec.More() {
		at.moveTo(dec.InputOffset())
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, at.wrong(err)
		}
		body, err := compact(raw)
		if err != nil {
			return nil, at.wrong(err)
		}
		items = append(items, Item{number: len(items) + 1, line: at.line, body: body})
	}
	return items, at.end(dec, array)
}

// compact puts an item on one line, as the worker wants it, and checks it. Only white space between values goes.
func compact(raw json.RawMessage) ([]byte, error) {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, err
	}
	_, err := work.Parse(line.Bytes())
	return line.Bytes(), err
}

// position is a place in the input that only moves on.
type position struct {
	data   []byte
	offset int64
	line   int // from 1
}

// moveTo goes on to the first byte of the value that begins at or after offset.
func (p *position) moveTo(offset int64) {
	for int(offset) < len(p.data) && bytes.IndexByte([]byte(" \t\r\n,"), p.data[offset]) >= 0 {
		offset++
	}
	p.line += bytes.Count(p.data[p.offset:offset], []byte("\n"))
	p.offset = offset
}

func (p *position) wrong(err error) error {
	switch {
	case errors.Is(err, work.ErrMalformed), errors.Is(err, work.ErrOversized):
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w: the input ends inside it", work.ErrMalformed)
	default:
		err = fmt.Errorf("%w: %w", work.ErrMalformed, err)
	}
	return fmt.Errorf("line %d: %w", p.line, err)
}

// end checks that nothing follows the last item, but for the end of the array if the items are in one.
func (p *position) end(dec *json.Decoder, array bool) error {
	p.moveTo(dec.InputOffset())
	if array {
		if _, err := dec.Token(); err != nil { // ']', since there is no more
			return p.wrong(err)
		}
		p.moveTo(dec.InputOffset())
	}
	if p.offset != int64(len(p.data)) {
		return p.wrong(errors.New("something follows the last item"))
	}
	return nil
}

// Split cuts items into requests. An item that no request can carry is an error.
func Split(items []Item, maxPayload int64) ([][]Item, error) {
	limit := min(chunkBytes, maxPayload)
	var chunks [][]Item
	var bytesIn int64
	for _, item := range items {
		length := int64(len(item.body)) + 1 // and the end of the line
		if length > maxPayload {
			return nil, fmt.Errorf("line %d: %w: %s, the Booster takes %s in one message",
				item.line, work.ErrOversized, text.Size(length), text.Size(maxPayload))
		}
		if len(chunks) == 0 || len(chunks[len(chunks)-1]) == chunkItems || bytesIn+length > limit {
			chunks, bytesIn = append(chunks, nil), 0
		}
		last := len(chunks) - 1
		chunks[last] = append(chunks[last], item)
		bytesIn += length
	}
	return chunks, nil
}

// Reply is a worker's answer: one entry for each item, in the same order.
type Reply struct {
	Items []struct {
		ID     string `json:"id"`
		Queued bool   `json:"queued"`
	} `json:"items"`
}

// refusal is a worker's answer that it took nothing of the request.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("the worker answered: %s (%d)", r.text, r.code) }

const (
	codeBusy    = 503 // the only refusal that goes by with time
	codeUnknown = 500 // the worker itself does not know whether it took the work
)

// requestSubmit asks one worker, any one. Its error is a *refusal, nats.ErrNoResponders if nobody listens (in both cases
// nothing was taken), or something after which nobody knows.
func request(ctx context.Context, nc *nats.Conn, body []byte) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, bus.SubjectSubmit, body)
	if err != nil {
		return Reply{}, err
	}
	if text := m.Header.Get(micro.ErrorHeader); text != "" {
		code, err := strconv.Atoi(m.Header.Get(micro.ErrorCodeHeader))
		if err != nil {
			code = codeUnknown
		}
		return Reply{}, &refusal{code: code, text: text}
	}
	var r Reply
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return Reply{}, fmt.Errorf("the worker's answer cannot be read: %w", err)
	}
	return r, nil
}

// Result is what became of one accepted item.
type Result struct {
	Number int    `json:"item"`
	Line   int    `json:"line"`
	ID     string `json:"id"`
	Queued bool   `json:"queued"`
}

// Watcher is told how a submission goes.
type Watcher struct {
	Progress func(done int)                       // so many items are accepted
	Waiting  func(err error, pause time.Duration) // no worker took a chunk; it is sent again after a pause
}

// Send sends chunks to the workers, one after the other, and says what became of every item. It ends with the first chunk
// that fails for good.
func Send(ctx context.Context, nc *nats.Conn, chunks [][]Item, w Watcher) (Report, error) {
	s := submitter{
		request: func(ctx context.Context, body []byte) (Reply, error) { return request(ctx, nc, body) },
		timeout: resubmitTimeout,
		pause:   submitPause,
		Watcher: w,
	}
	failure := s.run(ctx, chunks)
	items := slices.Concat(chunks...)
	report := Report{
		Accepted: len(s.accepted), Unknown: s.unknown, NotSent: len(items) - len(s.accepted) - s.unknown,
		Items: append([]Result{}, s.accepted...),
	}
	for _, item := range report.Items {
		if item.Queued {
			report.Queued++
		}
	}
	if failure != nil {
		failure = explain(failure, items, report)
		report.Error = failure.Error()
	}
	return report, failure
}

// submitter sends chunks one after the other and keeps account of them.
type submitter struct {
	request func(ctx context.Context, body []byte) (Reply, error)
	timeout time.Duration // how long one chunk is tried
	pause   time.Duration // before the second try; doubles
	Watcher

	accepted []Result
	unknown  int // items that were sent without an answer
}

// run sends the chunks until one fails for good.
func (s *submitter) run(ctx context.Context, chunks [][]Item) error {
	for _, chunk := range chunks {
		answer, err := s.send(ctx, chunk)
		if err != nil {
			return err
		}
		for i, item := range chunk {
			s.accepted = append(s.accepted, Result{
				Number: item.number, Line: item.line, ID: answer.Items[i].ID, Queued: answer.Items[i].Queued,
			})
		}
		s.Progress(len(s.accepted))
	}
	return nil
}

// send tries a chunk again as long as it is certain that no worker took it, and the timeout has not passed.
func (s *submitter) send(ctx context.Context, chunk []Item) (Reply, error) {
	var body bytes.Buffer
	for _, item := range chunk {
		body.Write(item.body)
		body.WriteByte('\n')
	}
	giveUp := time.Now().Add(s.timeout)
	for pause := s.pause; ; pause = min(2*pause, submitPauseMax) {
		answer, err := s.request(ctx, body.Bytes())
		if err == nil && len(answer.Items) != len(chunk) {
			err = fmt.Errorf("the worker answered for %s", text.Counted(len(answer.Items), "item"))
		}
		switch {
		case err == nil:
			return answer, nil
		case !untouched(err):
			s.unknown = len(chunk)
			return Reply{}, err
		case !s.worthWaiting(err) || time.Now().Add(pause).After(giveUp):
			return Reply{}, err
		}
		s.Waiting(err, pause)
		select {
		case <-ctx.Done():
			return Reply{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// untouched tells whether a failed request certainly changed nothing.
func untouched(err error) bool {
	var refused *refusal
	return (errors.As(err, &refused) && refused.code != codeUnknown) || errors.Is(err, nats.ErrNoResponders)
}

// worthWaiting tells whether the same request may succeed soon. That no worker listens is final at the start, where it
// is most likely a mistake; later on, one has just been there and may be restarting.
func (s *submitter) worthWaiting(err error) bool {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.code == codeBusy
	}
	return len(s.accepted) > 0
}

// explain adds to a failure what it means for the items, and how to go on.
func explain(failure error, items []Item, r Report) error {
	switch {
	case errors.Is(failure, nats.ErrNoResponders):
		failure = errors.New("no worker answers: start one with `omflow-booster worker` or an agent, and look at `omflow-booster status`")
	case errors.Is(failure, context.DeadlineExceeded), errors.Is(failure, nats.ErrTimeout):
		failure = errors.New("a worker took the request but did not answer in " + submitTimeout.String())
	case errors.Is(failure, context.Canceled):
		failure = errors.New("interrupted")
	}
	if r.Accepted+r.Unknown == 0 {
		return fmt.Errorf("%w; nothing was submitted", failure)
	}
	text := span(items, 0, r.Accepted) + " accepted"
	next := items[0].number - 1 + r.Accepted
	goOn := fmt.Sprintf("go on with --skip %d", next)
	if r.Unknown > 0 {
		text += "; whether " + span(items, r.Accepted, r.Unknown) + " " + isAre(r.Unknown) + " accepted is not known"
		goOn += fmt.Sprintf(", or with --skip %d if `omflow-booster work ls` shows that they are", next+r.Unknown)
	}
	if r.NotSent > 0 {
		text += "; " + span(items, r.Accepted+r.Unknown, r.NotSent) + " not submitted"
	}
	return fmt.Errorf("%w; %s; %s", failure, text, goOn)
}

// span names n items of the input from an index on: "items 3 to 5 (lines 3 to 9)".
func span(items []Item, from, n int) string {
	switch n {
	case 0:
		return "no item"
	case 1:
		return fmt.Sprintf("item %d (line %d)", items[from].number, items[from].line)
	}
	first, last := items[from], items[from+n-1]
	return fmt.Sprintf("items %d to %d (lines %d to %d)", first.number, last.number, first.line, last.line)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// Report is what became of a submission.
type Report struct {
	Accepted int      `json:"accepted"` // safe in the outbox of a worker
	Queued   int      `json:"queued"`   // of those, on WORK already; the others follow by themselves
	Unknown  int      `json:"unknown"`  // sent, but no answer came
	NotSent  int      `json:"not_sent"`
	Items    []Result `json:"items"` // the accepted ones
	Error    string   `json:"error,omitempty"`
}
