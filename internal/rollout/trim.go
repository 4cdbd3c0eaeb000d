package rollout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const (
	trimEvery   = time.Minute
	patchesKept = 10                  // that every server is through with
	keptFor     = 30 * 24 * time.Hour // a server that was not heard for so long holds nothing back any more

	// Pressed is the share of a store's limit from which less is kept than anybody would like.
	Pressed = 0.80

	// For so many looks, one each trimEvery, nobody may announce what something is for before it is removed.
	strayReport = 2
	strayPlan   = 60
	strayObject = 60
)

// trimmer removes what nobody needs any more: announcements, artifacts, plans and reports of patches that every known server is
// through with. A bucket or store that is full would stop all patching.
type trimmer struct {
	js     jetstream.JetStream
	at     time.Time      // of the last look
	strays map[string]int // looks at which something belonged to no patch that is announced
}

// stage is how much is kept, for whom. Only the first one holds as long as there is room.
type stage struct {
	keep int
	upTo func(servers []Known, alive func(name string) bool) uint64 // the sequence of the last patch that may go
}

// stages are tried one after the other while a store is pressed for room: fewer patches, then nothing for servers that are
// away, then nothing for those that do not get on. A server whose patches are gone says so, and asks (`nodes place`).
var stages = []stage{
	{patchesKept, slowest},
	{1, slowest},
	{1, func(servers []Known, alive func(name string) bool) uint64 {
		return slowest(slices.DeleteFunc(slices.Clone(servers), func(k Known) bool { return !alive(k.Name) }), nil)
	}},
	{1, func(servers []Known, _ func(name string) bool) (upTo uint64) {
		for _, k := range servers {
			upTo = max(upTo, k.Seq)
		}
		return upTo
	}},
}

// slowest is what all servers are through with.
func slowest(servers []Known, _ func(name string) bool) uint64 {
	if len(servers) == 0 {
		return 0
	}
	upTo := uint64(math.MaxUint64)
	for _, k := range servers {
		upTo = min(upTo, k.Seq)
	}
	return upTo
}

// trim does all that for the servers of the roster. busy tells of patches that somebody is at. It says which patches are gone.
func (t *trimmer) trim(ctx context.Context, r roster, members []Member, busy func(patch string) bool) (gone []string, err error) {
	t.at = time.Now()
	stream, err := t.js.Stream(ctx, bus.StreamPatch)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.StreamPatch, err)
	}
	announced, err := patch.ListOf(ctx, stream)
	if err != nil {
		return nil, err
	}
	servers := placed(r, stream.CachedInfo().Created, t.at)
	alive := func(name string) bool {
		return slices.ContainsFunc(members, func(m Member) bool { return m.Name == name })
	}
	artifacts, err := patch.Stored(ctx, t.js)
	if err != nil {
		return nil, err
	}
	for i, s := range stages {
		upTo := s.upTo(servers, alive)
		for len(announced) > s.keep && announced[0].Seq <= upTo && !busy(announced[0].ID) {
			if i > 0 {
				if pressed, err := t.pressed(ctx); err != nil || !pressed {
					return gone, err
				}
			}
			first := announced[0]
			announced = announced[1:]
			if err := t.remove(ctx, stream, first, announced, artifacts); err != nil {
				return gone, err
			}
			gone = append(gone, first.ID)
		}
	}
	return gone, t.sweep(ctx, announced, artifacts)
}

// placed are the servers of a roster that patches are kept for, with their places in this PATCH.
func placed(r roster, created, now time.Time) (list []Known) {
	for _, k := range r.known {
		if now.Sub(k.Seen) > keptFor {
			continue
		}
		if at, err := time.Parse(time.RFC3339Nano, k.Stream); err != nil || !at.Equal(created) {
			k.Seq = 0 // of another PATCH, or an agent of a former release
		}
		list = append(list, k)
	}
	return list
}

// remove takes a patch away. Its reports go first, because that needs no room; the announcement goes before what it announces.
func (t *trimmer) remove(ctx context.Context, stream jetstream.Stream, a patch.Announcement, rest []patch.Announcement,
	artifacts []patch.Artifact,
) error {
	again := slices.ContainsFunc(rest, func(o patch.Announcement) bool { return o.ID == a.ID })
	var err error
	if !again {
		err = purgeKeys(ctx, t.js, bus.Token(a.ID)+".*")
	}
	if err == nil {
		err = putKey(ctx, t.js, bus.KeyTrimmed, trimmed{a.Seq})
	}
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSequence(a.Seq+1))
	}
	if err != nil || again {
		return err
	}
	for _, o := range artifacts {
		if o.Name == a.Object {
			err = patch.Remove(ctx, t.js, o)
		}
	}
	return errors.Join(err, purgeKeys(ctx, t.js, bus.PlanPrefix+bus.Token(a.ID)))
}

// pressed tells whether one of the stores is nearly full.
func (t *trimmer) pressed(ctx context.Context) (bool, error) {
	for _, name := range []string{bus.StreamPatch, bus.BucketStream(bus.BucketRollout), bus.ObjectStream(bus.ObjectPatches)} {
		stream, err := t.js.Stream(ctx, name)
		if err != nil {
			return false, fmt.Errorf("open %s: %w", name, err)
		}
		info := stream.CachedInfo()
		if info.Config.MaxBytes > 0 && float64(info.State.Bytes) > Pressed*float64(info.Config.MaxBytes) {
			return true, nil
		}
	}
	return false, nil
}

// sweep removes what belongs to no patch that is announced: homes of long ago, uploads that were never announced, reports that came late.
func (t *trimmer) sweep(ctx context.Context, announced []patch.Announcement, artifacts []patch.Artifact) error {
	known, objects := map[string]bool{}, map[string]bool{}
	for _, a := range announced {
		known[bus.Token(a.ID)], objects[a.Object] = true, true
	}
	strays := map[string]int{}
	stray := func(name string, looks int) bool {
		strays[name] = t.strays[name] + 1
		return strays[name] >= looks
	}
	keys, err := bus.Keys(ctx, t.js, bus.BucketRollout, ">")
	for _, key := range keys {
		head, rest, ok := strings.Cut(key, ".")
		if !ok || head+"." == bus.RosterPrefix || known[head] || head+"." == bus.PlanPrefix && known[rest] {
			continue
		}
		looks := strayReport
		if head+"." == bus.PlanPrefix {
			looks = strayPlan
		}
		if stray(key, looks) {
			err = errors.Join(err, purgeKeys(ctx, t.js, key))
		}
	}
	for _, o := range artifacts {
		if !o.IsHome() && !objects[o.Name] && stray("object "+o.Name, strayObject) {
			err = errors.Join(err, patch.Remove(ctx, t.js, o))
		}
	}
	t.strays = strays
	return errors.Join(err, patch.ForgetHomes(ctx, t.js))
}

// trim removes what is not needed any more, once in a while, and at once when something did not fit. Before every living server
// had the time to be heard, it removes nothing: a server that was not heard yet would count as one that is away, or that nobody
// knows.
func (c *Coordinator) trim(ctx context.Context, now time.Time, full bool) error {
	if !c.Exclusive() || now.Sub(c.began) < silentFor || !full && now.Sub(c.trimmer.at) < trimEvery {
		return nil
	}
	c.trimmer.js = c.JS
	gone, err := c.trimmer.trim(ctx, c.roster, c.members.alive(now), func(id string) bool { return c.plans[id].at() > 0 })
	for _, id := range gone {
		c.Log.Info().Str(logging.Patch, id).Msg("patch removed from the stores: every server is through with it, or they were nearly full")
	}
	return err
}
