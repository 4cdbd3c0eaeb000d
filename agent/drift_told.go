package agent

import (
	"slices"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const driftShown = 1000 // changes, and paths that stay behind, that an agent tells of

// describe fills in what the heartbeat says of the home's files.
func (d *drift) describe(state *bus.AgentState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state.Drift, state.Stays, state.Held, state.Baseline = len(d.changes), len(d.stays), d.held, ""
	if d.hasBaseline {
		state.Baseline = d.baseline
	}
	state.Moving = strings.ToValidUTF8(d.moving, "\uFFFD")
	if len(d.stays) > 0 {
		state.StaysFirst = told(d.stays[0])
	}
}

// changed are all changes that the last look has found.
func (d *drift) changed() []tree.Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.changes)
}

// tell is what others are told of changes.
func (d *drift) tell(node string) bus.Drift {
	answer := bus.Drift{
		Node: node, Watch: d.cfg.Watch, Version: patch.HomeVersion(d.home.FS()), Files: []bus.DriftFile{}, Stays: []bus.DriftStay{},
	}
	published := d.book().Published
	d.mu.Lock()
	defer d.mu.Unlock()
	answer.Baseline, answer.Total, answer.StaysTotal = d.baseline, len(d.changes), len(d.stays)
	answer.Moving = strings.ToValidUTF8(d.moving, "\uFFFD")
	for _, s := range d.stays[:min(len(d.stays), driftShown)] {
		answer.Stays = append(answer.Stays, told(s))
	}
	if answer.Total == 0 {
		return answer
	}
	answer.Held, answer.Digest = d.held, d.digest
	since := d.since
	answer.Since = &since
	if published.Sent && published.Digest == d.digest {
		answer.Published = published.Patch
	}
	for _, c := range d.changes[:min(answer.Total, driftShown)] {
		answer.Files = append(answer.Files, bus.DriftFile{Path: c.Path, Kind: c.Kind})
	}
	return answer
}

// told is a path as it may stand in a message, which is UTF-8.
func told(s tree.Stay) bus.DriftStay {
	return bus.DriftStay{Path: strings.ToValidUTF8(s.Path, "\uFFFD"), Why: s.Why}
}
