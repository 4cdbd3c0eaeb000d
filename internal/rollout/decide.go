package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// situation is what a decision on one plan is made from.
type situation struct {
	now     time.Time
	members []Member
	away    []string          // servers that are switched off, or cannot be reached
	reports map[string]report // on this patch, by node
	others  int               // nodes that are at another patch
	patient time.Duration     // how long a node may be at it
}

// report is what a node says became of the patch, and the revision of its key.
type report struct {
	patch.Report
	revision uint64
}

// settled is how long after a turn a heartbeat may still tell of the time before.
const settled = 2 * bus.HeartbeatEvery

// decide is one step of a rollout: outcomes first, then whether it goes on, then who gets his turn. The same situation leads to
// the same plan.
func decide(p Plan, s situation) Plan {
	p = p.clone()
	p.note(s)
	p.judge(s)
	if p.State == StateRunning {
		p.grant(s)
	}
	p.pace(s)
	return p
}

// fetchAhead is how many nodes have fetched the artifact, or are at it, before their turn, besides those that may be patched at
// the same time: enough that nobody waits for a transfer, and so few that a fleet does not fetch a large artifact all at once.
const fetchAhead = 4

// pace says who may fetch. A node that says that it does not want to any more makes room for the next one. The canary, and who
// does not serve, are waited for by all others: those that have fetched it take no room away from them.
func (p *Plan) pace(s situation) {
	p.Paced = true
	ready := 0
	var fetching, first, waiting []string
	for _, m := range s.members {
		switch {
		case m.Next == p.Patch && !p.Open(m.Name):
			ready++
		case m.Next == p.Patch || m.Wants != p.Patch:
		case slices.Contains(p.Fetch, m.Name):
			fetching = append(fetching, m.Name)
		case m.Name == p.Canary:
			first = slices.Insert(first, 0, m.Name)
		case !m.Serving:
			first = append(first, m.Name)
		default:
			waiting = append(waiting, m.Name)
		}
	}
	most := fetchAhead + p.MaxUnavailable
	fetching = append(fetching, first[:min(max(0, most-len(fetching)), len(first))]...)
	room := max(0, most-ready-len(fetching))
	p.Fetch = append(fetching, waiting[:min(room, len(waiting))]...)
	slices.Sort(p.Fetch)
}

// note writes down what became of turns.
func (p *Plan) note(s situation) {
	for node, r := range s.reports {
		g, granted := p.Grants[node]
		if !r.Final() || r.revision <= g.Report {
			continue
		}
		if !granted {
			g.At = s.now // it could not even begin
		}
		g.Outcome, g.Reason, g.Until, g.Report = r.State, r.Error, s.now, r.revision
		p.Grants[node] = g
	}
	for node, g := range p.Grants {
		if g.Outcome != "" || p.Migration.holds(node, s.now) { // the next one would only wait for it, with its server stopped
			continue
		}
		switch {
		case s.now.Sub(g.At) > s.patient:
			g.Reason = fmt.Sprintf("it has not answered for %s; it catches up when it does", s.patient)
		case s.elsewhere(node, p.Patch, g.At):
			g.Reason = "it does not wait for its turn any more"
		default:
			continue
		}
		g.Outcome, g.Until = OutcomeGivenUp, s.now
		p.Grants[node] = g
	}
}

// elsewhere tells whether a node that was given a turn has been at something else since.
func (s situation) elsewhere(node, patch string, since time.Time) bool {
	return slices.ContainsFunc(s.members, func(m Member) bool { return m.Name == node && m.Next != patch && m.At.Sub(since) > settled })
}

// judge halts a rollout that fails too often.
func (p *Plan) judge(s situation) {
	failures := p.failures()
	if p.State != StateRunning || len(failures)-p.Tolerated <= p.MaxFailures {
		return
	}
	node := failures[len(failures)-1]
	p.State, p.By, p.Changed = StateHalted, "", s.now
	p.Reason = fmt.Sprintf("%s on %s: %s", p.Grants[node].Outcome, node, p.Grants[node].Reason)
}

// failures are the nodes on which the patch has failed, in the order in which they did.
func (p *Plan) failures() (nodes []string) {
	for node, g := range p.Grants {
		if g.Outcome == patch.StateFailed || g.Outcome == patch.StateRolledBack {
			nodes = append(nodes, node)
		}
	}
	slices.SortFunc(nodes, func(a, b string) int { return p.Grants[a].Until.Compare(p.Grants[b].Until) })
	return nodes
}

// grant gives turns to nodes that wait. Before the patch has succeeded once, one node is at it at a time, the canary first. A
// node that does not serve anyway may have its turn whatever the others do.
func (p *Plan) grant(s situation) {
	p.Held = ""
	if w, err := parseWindow(p.Window); err != nil || !w.open(s.now) {
		return
	}
	at := 0 // nodes that are at this patch
	for _, g := range p.Grants {
		if g.Outcome == "" {
			at++
		}
	}
	away := s.others + at // nodes without service
	var without []string  // those of them that no patch keeps, and that answer
	var silent []string   // those that do not answer
	for _, name := range s.away {
		if !p.Open(name) {
			silent = append(silent, name)
		}
	}
	var waiting []Member
	for _, m := range s.members {
		switch {
		case p.Open(m.Name): // counted
		case m.Next == p.Patch && p.waits(m):
			waiting = append(waiting, m)
			if !m.Serving {
				without = append(without, m.Name)
			}
		case !m.Serving:
			without = append(without, m.Name)
		}
	}
	away += len(silent) + len(without)
	slices.SortFunc(waiting, func(a, b Member) int { return p.rank(a) - p.rank(b) })
	for _, m := range waiting {
		if !p.proven() && (at > 0 || p.awaits(s, m.Name)) {
			return
		}
		if m.Serving && away >= p.MaxUnavailable {
			continue
		}
		p.Grants[m.Name] = Grant{At: s.now, Report: p.Grants[m.Name].Report}
		at++
		if m.Serving {
			away++
		}
	}
	if at == 0 && len(waiting) > 0 && len(silent)+len(without) >= p.MaxUnavailable { // nothing that is under way will change it
		p.Held = held(silent, without, p.MaxUnavailable)
	}
}

// held says which servers keep the others from their turns, and what to do about those that do not answer.
func held(silent, without []string, most int) string {
	var parts []string
	if len(without) > 0 {
		parts = append(parts, strings.Join(without, ", ")+" without service")
	}
	if len(silent) > 0 {
		parts = append(parts, "no answer from "+strings.Join(silent, ", "))
	}
	text := fmt.Sprintf("%s, and %d may be without service at the same time", strings.Join(parts, ", "), most)
	switch len(silent) {
	case 0:
		return text
	case 1:
		return text + "; if it will not come back under that name: omflow-booster nodes forget " + silent[0]
	}
	return text + "; for each that will not come back under its name: omflow-booster nodes forget NAME"
}

// waits tells whether a node that says so does not say it from before its turn was over. One whose turn is long over, and that
// waits, was set up anew.
func (p *Plan) waits(m Member) bool {
	g, had := p.Grants[m.Name]
	return !had || m.At.Sub(g.Until) > settled
}

// awaits tells whether another node is to be the canary, and can be: it is there, and neither a conflict nor something else
// keeps it for long.
func (p *Plan) awaits(s situation, node string) bool {
	if p.Canary == "" || p.Canary == node || p.Grants[p.Canary].Outcome != "" {
		return false
	}
	if s.reports[p.Canary].State == patch.StateConflict {
		return false
	}
	return slices.ContainsFunc(s.members, func(m Member) bool {
		return m.Name == p.Canary && (m.Next == p.Patch || s.now.Sub(p.Changed) <= s.patient)
	})
}

// rank puts the canary first, and those last that have been given up before.
func (p *Plan) rank(m Member) int {
	switch {
	case m.Name == p.Canary:
		return 0
	case p.Grants[m.Name].Outcome == OutcomeGivenUp:
		return 2
	}
	return 1
}

// proven tells whether the patch has succeeded somewhere.
func (p *Plan) proven() bool {
	for _, g := range p.Grants {
		if g.Outcome == patch.StateApplied {
			return true
		}
	}
	return false
}
