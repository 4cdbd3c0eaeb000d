// Package work is the domain type that travels from a form to its effect: one queued step.
package work

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxItemBytes is the largest encoded item that is carried: 4 MiB. An item with a row may be larger: it travels without its
// input_param, see Lean.
const MaxItemBytes = 4 << 20

// Errors of Parse.
var (
	ErrMalformed = errors.New("malformed item") // not JSON, or a field is missing or of the wrong form
	ErrOversized = errors.New("oversized item") // more than MaxItemBytes
)

// Source says which table holds the row that makes a step durable.
type Source byte

// The two tables that a step can live in.
const (
	Queue  Source = 'q' // omflow_queuedata, written by the OMFLOW Server
	Outbox Source = 'o' // our own outbox, for work that was submitted without an OMFLOW row
)

// ID is the identity of a step: a table and the primary key in it. Written q<row> or o<row>.
type ID struct {
	Source Source
	Row    int64
}

func (id ID) String() string { return string(rune(id.Source)) + strconv.FormatInt(id.Row, 10) }

// MsgID is the value of Nats-Msg-Id for the step.
func (id ID) MsgID() string {
	if id.Source == Queue {
		return "omflow-queue-" + strconv.FormatInt(id.Row, 10)
	}
	return "booster-outbox-" + strconv.FormatInt(id.Row, 10)
}

// ParseID reads q<row> or o<row>.
func ParseID(s string) (ID, error) {
	if len(s) > 1 && (s[0] == byte(Queue) || s[0] == byte(Outbox)) {
		if row, err := strconv.ParseInt(s[1:], 10, 64); err == nil && row > 0 {
			return ID{Source(s[0]), row}, nil
		}
	}
	return ID{}, fmt.Errorf("%q is not a step: want q<row> or o<row>", s)
}

// Item is a queue item as OMFLOW writes it, plus the primary key of its row.
type Item struct {
	Row        int64  `json:"row,omitempty"` // primary key in omflow_queuedata; 0: none, our outbox takes it
	QueueID    string `json:"queue_id"`      // flow_uuid + data_id + chart_id; not unique over time
	Name       string `json:"name"`          // kind of queue, for example FormFlow
	ModuleName string `json:"module_name"`   // Python module, or any name that the executor understands
	MethodName string `json:"method_name"`
	// InputParam is a JSON value, or the JSON text of one in a string; never changed. Missing: it stands in the row.
	InputParam json.RawMessage `json:"input_param,omitempty"`

	// SubmitID is the submitter's own key for work without a row: while the work waits, submitting it again changes nothing.
	SubmitID string `json:"submit_id,omitempty"`

	// More is what a newer program has added. It goes along, as it is.
	More map[string]json.RawMessage `json:"-"`
}

// plainItem is an Item without what it does not know.
type plainItem Item

// known are the fields of an item.
var known = []string{"row", "queue_id", "name", "module_name", "method_name", "input_param", "submit_id"}

// UnmarshalJSON keeps the fields that are not known.
func (it *Item) UnmarshalJSON(data []byte) error {
	*it = Item{}
	if err := json.Unmarshal(data, (*plainItem)(it)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		return slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
	})
	if len(all) > 0 {
		it.More = all
	}
	return nil
}

// MarshalJSON writes them after the others.
func (it Item) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // what OMFLOW wrote stays as it is
	if err := enc.Encode(plainItem(it)); err != nil {
		return nil, err
	}
	data := bytes.TrimRight(buf.Bytes(), "\n")
	for _, name := range slices.Sorted(maps.Keys(it.More)) {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		data = slices.Concat(data[:len(data)-1], []byte(","), key, []byte(":"), it.More[name], []byte("}"))
	}
	return data, nil
}

// Parse reads one item. It returns ErrOversized or ErrMalformed with what is wrong; the item is never altered.
func Parse(data []byte) (Item, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var it Item
	if err := dec.Decode(&it); err != nil {
		return Item{}, fmt.Errorf("%w: %s", ErrMalformed, strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Item{}, fmt.Errorf("%w: more than one JSON value", ErrMalformed)
	}
	return it, it.Check()
}

// Lengths that every database and bus can carry, in bytes.
const (
	maxName     = 200
	maxSubmitID = 200
	maxParam    = MaxItemBytes - 16<<10 // the names beside it are short
	maxModule   = 4 << 10
)

// Check tells whether the item has what a step needs and can be carried: ErrMalformed or ErrOversized if not.
func (it Item) Check() error {
	malformed := func(format string, v ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, v...)...)
	}
	switch {
	case it.Row < 0:
		return malformed("row %d is negative", it.Row)
	case it.Name == "":
		return malformed("name is missing (the kind of queue, for example FormFlow)")
	case it.ModuleName == "":
		return malformed("module_name is missing")
	case it.MethodName == "":
		return malformed("method_name is missing")
	case len(it.InputParam) == 0 && it.Row == 0:
		return malformed("input_param is missing (use {} for none)")
	case len(it.InputParam) > maxParam && it.Row == 0:
		return fmt.Errorf("%w: input_param has %d bytes, the limit is %d", ErrOversized, len(it.InputParam), maxParam)
	case !utf8.Valid(it.InputParam):
		return malformed("input_param is not UTF-8")
	}
	more := 0
	for name, value := range it.More {
		more += len(name) + len(value)
	}
	if more > maxModule {
		return fmt.Errorf("%w: its fields that are not known here have %d bytes, the limit is %d", ErrOversized, more, maxModule)
	}
	for _, f := range []struct {
		name, value string
		limit       int
	}{
		{"name", it.Name, maxName},
		{"submit_id", it.SubmitID, maxSubmitID},
		{"queue_id", it.QueueID, maxModule},
		{"module_name", it.ModuleName, maxModule},
		{"method_name", it.MethodName, maxModule},
	} {
		switch {
		case len(f.value) > f.limit:
			return malformed("%s has %d bytes, the limit is %d", f.name, len(f.value), f.limit)
		case strings.ContainsRune(f.value, 0) || !utf8.ValidString(f.value):
			return malformed("%s has a character that databases refuse (NUL, or no UTF-8)", f.name)
		}
	}
	return nil
}

// Lean is the item as it travels: one that is too large, and has a row, goes without its input_param. Who runs it reads the row.
func (it Item) Lean() Item {
	if it.Row > 0 && len(it.InputParam) > maxParam {
		it.InputParam = nil
	}
	return it
}

// RowOf is the row that an item names which Parse refuses; 0 if it names none.
func RowOf(data []byte) int64 {
	var it struct {
		Row int64 `json:"row"`
	}
	if json.Unmarshal(data, &it) != nil {
		return 0
	}
	return max(it.Row, 0)
}

// Encode writes the item as JSON, for a message after Lean.
func (it Item) Encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // what OMFLOW wrote stays as it is
	if err := enc.Encode(it); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	data := bytes.TrimRight(buf.Bytes(), "\n")
	if len(data) > MaxItemBytes && it.Row == 0 {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrOversized, len(data), MaxItemBytes)
	}
	return data, nil
}

// Params returns the input parameter as JSON, unwrapping the string form that OMFLOW stores in its table.
func (it Item) Params() json.RawMessage {
	if len(it.InputParam) > 0 && it.InputParam[0] == '"' {
		var text string
		if json.Unmarshal(it.InputParam, &text) == nil && json.Valid([]byte(text)) {
			return json.RawMessage(text)
		}
	}
	return it.InputParam
}

// Flow is the flow that the step belongs to, and Key its ticket as <flow>/<data_no>; both may be empty.
func (it Item) Flow() (flow, key string) {
	var p struct {
		Flow   string      `json:"flow_uuid"`
		DataNo json.Number `json:"data_no"`
	}
	if json.Unmarshal(it.Params(), &p) != nil || p.Flow == "" {
		return "", ""
	}
	if p.DataNo == "" {
		return p.Flow, ""
	}
	return p.Flow, p.Flow + "/" + p.DataNo.String()
}
