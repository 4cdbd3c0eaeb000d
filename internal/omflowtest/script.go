package omflowtest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Steps is the number of queued steps of a ticket from filing to closing.
const Steps = 8

//go:embed queue-items.jsonl.gz
var recorded []byte

// Script knows the steps of every ticket. Tickets are numbered from 1; the first 500 are the recorded ones, later ones repeat
// them with ticket numbers of their own, so that a test can file as many as it likes.
type Script struct {
	tickets [][]work.Item // in recorded order, the Steps items of each
	byNo    map[int64]int // data_no → index in tickets
	round   int64         // by how much data_no grows when the recorded tickets are used again
}

// params are the parts of input_param that tell which step of which ticket an item is.
type params struct {
	DataNo  int64  `json:"data_no"`
	DataID  int64  `json:"data_id"`
	ChartID string `json:"chart_id_from"`
}

// Recorded returns the script of the embedded queue items, which is read once.
var Recorded = sync.OnceValue(func() *Script {
	s, err := readScript(recorded)
	if err != nil {
		panic(err) // embedded above, and a test reads it
	}
	return s
})

func readScript(compressed []byte) (*Script, error) {
	zr, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("open recorded queue items: %w", err)
	}
	s := &Script{byNo: map[int64]int{}}
	var low, high int64
	lines := bufio.NewScanner(zr)
	lines.Buffer(nil, work.MaxItemBytes)
	for lines.Scan() {
		it, err := work.Parse(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("recorded queue item: %w", err)
		}
		it.InputParam = compact(it.InputParam)
		p, err := paramsOf(it)
		if err != nil {
			return nil, err
		}
		i, known := s.byNo[p.DataNo]
		if !known {
			i = len(s.tickets)
			s.byNo[p.DataNo] = i
			s.tickets = append(s.tickets, nil)
		}
		s.tickets[i] = append(s.tickets[i], it)
		if len(s.tickets) == 1 && low == 0 || p.DataNo < low {
			low = p.DataNo
		}
		high = max(high, p.DataNo)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read recorded queue items: %w", err)
	}
	s.round = high - low + 1
	for _, items := range s.tickets {
		if len(items) != Steps {
			return nil, fmt.Errorf("recorded ticket has %d queue items, want %d", len(items), Steps)
		}
	}
	return s, nil
}

// Len is the number of recorded tickets.
func (s *Script) Len() int { return len(s.tickets) }

// Item is the queue item of one step of a ticket; both count from 1. It has no row yet.
func (s *Script) Item(ticket int64, step int) work.Item {
	n := int64(len(s.tickets))
	return s.shift(s.tickets[(ticket-1)%n][step-1], (ticket-1)/n)
}

// Locate tells which step of which ticket an item is.
func (s *Script) Locate(it work.Item) (ticket int64, step int, err error) {
	p, err := paramsOf(it)
	if err != nil {
		return 0, 0, err
	}
	first, _ := paramsOf(s.tickets[0][0])
	round := floorDiv(p.DataNo-first.DataNo, s.round)
	i, known := s.byNo[p.DataNo-round*s.round]
	if !known || round < 0 {
		return 0, 0, fmt.Errorf("%s: ticket %d is not one of the script", it.QueueID, p.DataNo)
	}
	for n, candidate := range s.tickets[i] {
		if c, _ := paramsOf(candidate); c.ChartID == p.ChartID {
			return round*int64(len(s.tickets)) + int64(i) + 1, n + 1, nil
		}
	}
	return 0, 0, fmt.Errorf("%s: ticket %d has no step %s", it.QueueID, p.DataNo, p.ChartID)
}

// shift makes a recorded item one of a later round. In the first round it is the recorded one, byte for byte.
func (s *Script) shift(it work.Item, round int64) work.Item {
	if round == 0 {
		return it
	}
	const dataIDs = 1_000_000 // more than the recording has
	p, _ := paramsOf(it)
	number := func(name string, from, to int64) {
		old, renewed := fmt.Sprintf("%q:%d,", name, from), fmt.Sprintf("%q:%d,", name, to)
		it.InputParam = json.RawMessage(strings.Replace(string(it.InputParam), old, renewed, 1))
	}
	number("data_no", p.DataNo, p.DataNo+round*s.round)
	number("data_id", p.DataID, p.DataID+round*dataIDs)
	it.QueueID = strings.Replace(it.QueueID, strconv.FormatInt(p.DataID, 10)+p.ChartID,
		strconv.FormatInt(p.DataID+round*dataIDs, 10)+p.ChartID, 1)
	return it
}

func paramsOf(it work.Item) (params, error) {
	var p params
	if err := json.Unmarshal(it.Params(), &p); err != nil {
		return params{}, fmt.Errorf("%s: input_param: %w", it.QueueID, err)
	}
	return p, nil
}

func compact(raw json.RawMessage) json.RawMessage {
	var buf bytes.Buffer
	if json.Compact(&buf, raw) != nil {
		return raw
	}
	return buf.Bytes()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
