package runner

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/omflow-booster/omflow-booster/internal/process"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// protocolVersion is the version that a runner names in its ready message.
const protocolVersion = 1

// maxLine is the longest line of either side, its newline not counted: 16 MiB.
const maxLine = 16 << 20

// Messages from the worker to a runner.
const (
	opRun     = "run"
	opRenew   = "renew"
	opStored  = "stored"
	opRefused = "refused"
)

// Messages from a runner to the worker.
const (
	opReady  = "ready"
	opPut    = "put"
	opDone   = "done"
	opFailed = "failed"
)

type runMessage struct {
	Op       string    `json:"op"`
	ID       string    `json:"id"`
	Attempt  int       `json:"attempt"`
	Ticket   string    `json:"key"`
	Deadline int64     `json:"deadline"` // Unix time in milliseconds
	Item     work.Item `json:"item"`
	Follow   bool      `json:"follow,omitempty"` // done may name follow-up steps
}

type renewMessage struct {
	Op       string `json:"op"`
	ID       string `json:"id"`
	Deadline int64  `json:"deadline"`
}

type storedMessage struct {
	Op  string   `json:"op"`
	ID  string   `json:"id"`
	N   int64    `json:"n"`
	IDs []string `json:"ids"`
}

type refusedMessage struct {
	Op    string `json:"op"`
	ID    string `json:"id"`
	N     int64  `json:"n"`
	Error string `json:"error"`
}

// message is anything that a runner says. Which fields count depends on Op.
type message struct {
	Op      string            `json:"op"`
	ID      string            `json:"id"`      // put, done, failed
	N       int64             `json:"n"`       // put
	Items   []json.RawMessage `json:"items"`   // put, done
	Recycle bool              `json:"recycle"` // done, failed
	greeting
	doneMessage
	failedMessage
}

// greeting is what ready says.
type greeting struct {
	Protocol int    `json:"protocol"`
	Name     string `json:"name"`
}

// doneMessage is what only done says.
type doneMessage struct {
	Skipped bool `json:"skipped"`
	Kept    bool `json:"kept"`
}

// failedMessage is what only failed says.
type failedMessage struct {
	Error        string `json:"error"`
	Permanent    bool   `json:"permanent"`
	RetryAfterMS int64  `json:"retry_after_ms"`
	Uncounted    bool   `json:"untried"`
}

// encode writes one message as a line, newline included. It fails only for an input_param that is not JSON.
func encode(m any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // what OMFLOW wrote stays as it is
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// spoken finds a message of ours in a line that is none: user code printed in front of it without a newline, or it holds NaN.
var spoken = regexp.MustCompile(`"op"\s*:\s*"(` + opReady + `|` + opPut + `|` + opDone + `|` + opFailed + `)"`)

const maxQuoted = 1 << 10 // bytes of such a line that its error repeats

// decode reads a line of a runner's standard output. It tells a message (true) from something that user code printed
// (false). It fails for a message of ours that cannot be read: the worker would wait for it for as long as a step may take.
func decode(line []byte) (message, bool, error) {
	line = bytes.TrimSpace(line)
	var head struct {
		Op any `json:"op"`
	}
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &head) != nil {
		if bytes.Contains(line, []byte(`"op"`)) && spoken.Match(line) {
			return message{}, true, fmt.Errorf("unreadable message: %s", process.Cut(string(line), maxQuoted))
		}
		return message{}, false, nil
	}
	op, _ := head.Op.(string)
	if op == "" {
		return message{}, false, nil
	}
	m := message{Op: op}
	switch op {
	case opReady, opPut, opDone, opFailed:
	default:
		return m, true, nil // of a later protocol, or a dict that user code printed
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, true, fmt.Errorf("malformed %q message: %w", op, err)
	}
	if m.ID == "" && op != opReady {
		return m, true, fmt.Errorf("malformed %q message: no id", op)
	}
	if op == opDone && slices.ContainsFunc(m.Items, func(item json.RawMessage) bool { return work.RowOf(item) == 0 }) {
		return m, true, fmt.Errorf("malformed %q message: an item without a row", op) // nobody would look for it
	}
	return m, true, nil
}

var errLineTooLong = errors.New("line is too long")

// readLine returns the next line without its newline. At the end of the input it returns what is left with io.EOF: a
// line without a newline was cut off and is no message. Beyond limit it returns what it has read with errLineTooLong.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	piece, err := r.ReadSlice('\n')
	if err == nil {
		return piece[:len(piece)-1], nil // the common case: valid until the next read, no copy
	}
	// A buffer of its own for a long line, so that one large item does not stay in memory for ever.
	line := bytes.Clone(piece)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(line) > limit {
			return line, errLineTooLong
		}
		piece, err = r.ReadSlice('\n')
		line = append(line, piece...)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return line, err
	}
	if err == nil {
		line = line[:len(line)-1]
	}
	if len(line) > limit {
		return line, errLineTooLong
	}
	return line, err
}
