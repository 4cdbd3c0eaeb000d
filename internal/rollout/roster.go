package rollout

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	// awayFor is how long a silent server counts as one that is without service: after that it is taken for one that nobody misses.
	awayFor = 24 * time.Hour
	// noteEvery is how often the time of a server that is heard is written down.
	noteEvery = time.Hour
)

// Known is a server that an active Booster has heard of, as JSON in ROLLOUT under server.<node>. It stays when the server falls
// silent, until somebody forgets it.
type Known struct {
	Name string    `json:"name"`
	Runs bool      `json:"runs"` // its agent runs an OMFLOW Server
	Seen time.Time `json:"seen"` // by the Booster's clock; at most an hour before it was last heard

	// How far it is in the order of patches, as AgentState.PatchStream and PatchSeq. What it has not settled yet stays on the bus for it.
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
}

func rosterKey(node string) string { return bus.RosterPrefix + bus.Token(node) }

// Roster lists the servers that were ever heard of, by name. It fails if one of them cannot be read.
func Roster(ctx context.Context, js jetstream.JetStream) ([]Known, error) {
	entries, err := bus.ReadAll(ctx, js, bus.BucketRollout, bus.RosterPrefix+"*")
	if err != nil {
		return nil, err
	}
	list := make([]Known, 0, len(entries))
	for _, e := range entries {
		var k Known
		if json.Unmarshal(e.Value, &k) == nil && k.Name != "" { // one that was forgotten has left an empty value
			list = append(list, k)
		}
	}
	return list, nil
}

// Forget removes a server from the roster: it does not count as away any more. One that lives is noted again at once.
func Forget(ctx context.Context, js jetstream.JetStream, node string) error {
	return purgeKeys(ctx, js, rosterKey(node))
}

// roster is what a coordinator knows of the roster: it alone writes it, except for Forget.
type roster struct {
	known map[string]Known // nil before it was read
	read  time.Time
}

// update notes the members that are alive. What somebody has forgotten meanwhile is noticed within a minute.
func (r *roster) update(ctx context.Context, js jetstream.JetStream, members []Member, now time.Time) error {
	if r.known == nil || now.Sub(r.read) > time.Minute {
		list, err := Roster(ctx, js)
		if err != nil {
			return err
		}
		r.known, r.read = map[string]Known{}, now
		for _, k := range list {
			r.known[k.Name] = k
		}
	}
	for _, m := range members {
		was, there := r.known[m.Name]
		if there && was.Runs == m.Runs && was.Stream == m.Stream && was.Seq == m.Seq && now.Sub(was.Seen) < noteEvery {
			continue
		}
		k := Known{Name: m.Name, Runs: m.Runs, Seen: now, Stream: m.Stream, Seq: m.Seq}
		if err := putKey(ctx, js, rosterKey(m.Name), k); err != nil && !bus.IsFull(err) { // a full bucket is emptied by who knows of it
			return err
		}
		r.known[m.Name] = k
	}
	return nil
}

// away lists the servers that should be there and are silent, by name.
func (r *roster) away(members []Member, now time.Time) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(r.known)) {
		k := r.known[name]
		alive := slices.ContainsFunc(members, func(m Member) bool { return m.Name == name })
		if k.Runs && !alive && now.Sub(k.Seen) < awayFor {
			names = append(names, name)
		}
	}
	return names
}
