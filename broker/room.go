package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"math/bits"
	"path/filepath"
	"slices"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// How much the streams may fill. Each member keeps all of them, so the one with the least room decides: a stream that is full says so to
// its callers, whose rows wait in SQL, while a disk that is full takes the member away, and then the next one.
const (
	gatherEvery = 10 * time.Second
	roomReserve = minFree / 2 // of each disk: for logs of the members and for what others write
	growTimeout = time.Minute // room that comes and goes is not room
)

// room is what one member may give to the streams.
type room struct {
	who   string
	limit int64 // by its settings, or by its disk when it was started; 0: none
	used  int64
	free  int64 // on its disk at this moment; 0: not known
}

// bytes is how much that is, or 0 when it is not known. What depends on the disk is rounded, so that it does not change with every file.
func (r room) bytes() int64 {
	if r.free == 0 {
		return r.limit
	}
	left := r.used + max(0, r.free-roomReserve)
	if r.limit == 0 {
		left = min(left, int64(float64(r.used+r.free)*freeShare))
	} else if left >= r.limit {
		return r.limit
	}
	left = max(left, minStoreMB*mib)
	step := int64(1) << (bits.Len64(uint64(left)) - 4)
	return left &^ (step - 1)
}

// surroundings are the hosts of the members, as far as the topology controller knows them. The controller alone uses them.
type surroundings struct {
	cluster   *cluster
	store     *store
	limit     int64      // of this Booster, by its settings
	placement *placement // nil on a single Booster
	known
}

// known is what the surroundings forget while this Booster does not lead.
type known struct {
	looked  time.Time
	rooms   []room
	all     bool      // every member was heard
	older   bool      // a Booster of another program was heard, or one was not heard
	sized   bool      // the size was decided once since this Booster leads
	roomier time.Time // since when there is more room than is used; zero: there is none
	wrong   []string  // with where the members are
}

func newSurroundings(c *cluster, s *store, limit int64, p *placement) *surroundings {
	return &surroundings{cluster: c, store: s, limit: limit, placement: p}
}

func (s *surroundings) forget() { s.known = known{} }

// gather reads, now and then, what the members say of their hosts.
func (s *surroundings) gather(ctx context.Context, v *view) error {
	if age := time.Since(s.looked); age < gatherEvery && (s.all || age < watchEvery) {
		return nil
	}
	free, err := freeSpace(s.store.dir)
	if err != nil {
		return fmt.Errorf("read free space of %s: %w", s.store.dir, err)
	}
	own := room{s.cluster.name, s.limit, size(filepath.Join(s.store.dir, storeName)), max(free, 1)}
	s.looked, s.rooms, s.all, s.older = time.Now(), []room{own}, true, false
	if s.cluster.single {
		return nil
	}
	nodes, err := s.members(ctx, v)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		switch {
		case n.Booster != nil && n.Name != s.cluster.name:
			s.rooms = append(s.rooms, room{n.Name, n.Booster.StoreLimit, n.Booster.StoreBytes, n.Booster.FreeBytes})
			s.older = s.older || another(n)
		case n.Agent != nil:
			s.rooms = append(s.rooms, room{who: v.grant.Name, used: n.Agent.WitnessBytes, free: n.Agent.WitnessFree})
		}
	}
	s.all = everybody(v, nodes)
	s.older = s.older || !s.all
	s.wrong = s.placement.judge(v, nodes)
	if s.placement.names.missing() {
		s.looked = time.Time{} // again at the next look
	}
	return nil
}

// members are the heartbeats of the Boosters and of the agent that runs the witness.
func (s *surroundings) members(ctx context.Context, v *view) (nodes []bus.Node, err error) {
	keys, err := bus.Keys(ctx, s.cluster.node.js, bus.BucketNodes, bus.ServiceBooster+".*")
	if err != nil {
		return nil, err
	}
	if v.grant != nil {
		keys = append(keys, bus.Node{Role: bus.ServiceAgent, Name: v.grant.Agent}.Key())
	}
	for _, key := range keys {
		value, _, err := bus.ReadKey(ctx, s.cluster.node.js, bus.BucketNodes, key)
		if err != nil {
			return nil, err
		}
		var n bus.Node
		if json.Unmarshal(value, &n) == nil { // else it has left
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// everybody tells whether every Booster of the cluster, and the agent of the witness, are among nodes.
func everybody(v *view, nodes []bus.Node) bool {
	for _, p := range v.peers {
		if p.name == "" || !isWitness(p.name) && !heard(nodes, bus.ServiceBooster, p.name) {
			return false
		}
	}
	return v.grant == nil || heard(nodes, bus.ServiceAgent, v.grant.Agent)
}

func heard(nodes []bus.Node, role, name string) bool {
	return slices.ContainsFunc(nodes, func(n bus.Node) bool { return n.Role == role && n.Name == name })
}

// storeBytes is how much all streams together may fill, and what to say of it. They shrink at once, and grow when every member was heard:
// at the first look, which is that of changed settings, or when the room has been there for a while.
func (s *surroundings) storeBytes(v *view) (total int64, notes []string) {
	current := (bus.StoreOf(v.streams[bus.StreamWork].config.MaxBytes) + mib/2) / mib * mib
	if len(s.rooms) == 0 {
		return current, nil
	}
	least := room{}
	for _, r := range s.rooms {
		if n := r.bytes(); n > 0 && (total == 0 || n < total) {
			least, total = r, n
		}
	}
	total = max(total/mib*mib, minStoreMB*mib)
	if total < s.limit/mib*mib && least.who != "" {
		notes = append(notes, fmt.Sprintf("the streams may fill %d MB and not %d: %s has no room for more (BOOSTER_STORE_MB, or its disk)",
			total/mib, s.limit/mib, least.who))
	}
	if total <= current {
		s.roomier, s.sized = time.Time{}, s.sized || s.all
		return total, notes
	}
	if s.roomier.IsZero() {
		s.roomier = time.Now()
	}
	if !s.all || s.sized && time.Since(s.roomier) < growTimeout {
		return current, notes
	}
	s.sized = true
	return total, notes
}

// another tells whether a Booster runs another program than this one.
func another(n bus.Node) bool { return n.Version != buildinfo.Version() }
