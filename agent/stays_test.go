package agent

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/document"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// staying are the paths that an agent names, with their reasons.
func staying(d bus.Drift) map[string]string {
	stays := map[string]string{}
	for _, s := range d.Stays {
		stays[s.Path] = s.Why
	}
	return stays
}

// Whatever lies in the home that cannot travel, or must not: everything else does, and what stays is named.
func TestWhatCannotTravelHoldsUpNothing(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	for _, n := range []*node{one, two} {
		n.write("omflow/linked.py", "0")
		n.start()
		n.drift(undrifted)
	}

	one.write("omflow/two\nlines.py", "x")
	one.write("omflow/latin-\xe9.py", "x")
	one.write("omflow/settings.py.before-20260131", "SECRET")
	one.write("all.json", `{"password": "pbkdf2_sha256$150000$salt$`+strings.Repeat("A", 43)+`="}`)
	one.write("tmpab12cd34.upload.pdf", "half")
	one.write("dump", "")
	require.NoError(t, os.Truncate(filepath.Join(one.cfg.Home, "dump"), 4<<30))
	require.NoError(t, os.Remove(filepath.Join(one.cfg.Home, "omflow/linked.py")))
	require.NoError(t, os.Symlink("app.py", filepath.Join(one.cfg.Home, "omflow/linked.py")))
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() {
		defer close(stopped)
		for {
			_ = os.WriteFile(filepath.Join(one.cfg.Home, "restless"), []byte(time.Now().String()), 0o600)
			select {
			case <-stop:
				return
			case <-time.After(one.cfg.WatchQuiet / 10):
			}
		}
	}()
	one.write("omflow/app.py", "v1")
	a := published(t, one, 1)[0]
	two.report(a.ID, patch.StateApplied)
	require.Equal(t, "v1", two.read("omflow/app.py"))
	require.Equal(t, [2]int{1, 0}, [2]int{a.Files, a.Deletions})

	d := one.drift(func(d bus.Drift) bool { return d.Total == 0 && d.StaysTotal == 7 })
	stays := staying(d)
	require.Equal(t, []string{
		"all.json", "dump", "omflow/latin-\uFFFD.py", "omflow/linked.py", "omflow/settings.py.before-20260131", "omflow/two\nlines.py",
		"restless",
	}, slices.Sorted(maps.Keys(stays)))
	require.Contains(t, stays["restless"], "is written again and again")
	require.Contains(t, stays["dump"], "has 4.0 GiB, and a patch carries at most 1.0 GiB")
	one.state(func(s bus.AgentState) bool { return s.Stays == 7 && s.StaysFirst.Path == "all.json" })
	published(t, one, 1)
}

// A server that writes a file of its home whenever it starts does not restart everybody for ever.
func TestServerThatWritesIntoItsHome(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.write("counter", "0")
	n.start()
	n.drift(undrifted)
	n.write("omflow/app.py", "v1")
	d := n.drift(func(d bus.Drift) bool { return d.StaysTotal == 1 })
	require.Contains(t, staying(d)["counter"], "the server seems to write it")
	require.Equal(t, []bus.DriftFile{{Path: "counter", Kind: "changed"}}, d.Files)
	published(t, n, 2)

	n.write("omflow/app.py", "v2") // nobody else has to wait
	n.report(published(t, n, 3)[2].ID, patch.StateApplied)
	n.drift(func(d bus.Drift) bool { return d.StaysTotal == 1 && d.Total == 1 })
	published(t, n, 3)
}

// A program that changes a published file some time after each start is slowed down, more and more.
func TestBreakerOfWhatIsChangedAgainAndAgain(t *testing.T) {
	t.Parallel()
	pages, err := document.Open[treeBook](filepath.Join(t.TempDir(), treeFile))
	require.NoError(t, err)
	d := &sifter{quiet: time.Second, started: func() (begun, healthy time.Time) { return begun, healthy }}
	now := time.Now()
	content := patch.Content{Files: []patch.File{{Path: "a"}}}
	for round := range 8 {
		now = now.Add(30 * time.Second)
		change := tree.Change{Path: "a", Kind: tree.Changed, Is: tree.File{SHA256: "x", Altered: now}}
		d.read = now.Add(2 * time.Second)
		require.Equal(t, round > tooOften, d.hold(change, pages.Get()) != "", round)
		if held := round - tooOften; held > 0 {
			d.read = now.Add(soon * time.Second << (held - 1))
			require.Empty(t, d.hold(change, pages.Get()), "it has rested")
		}
		require.NoError(t, pages.Change(func(b *treeBook) {
			b.Published = publishedTree{Patch: "own", Repeats: d.repeats([]tree.Change{change}, *b)}
			now = now.Add(time.Second)
			b.remember("own", content, now)
		}))
	}
	require.NoError(t, pages.Change(func(b *treeBook) { b.remember("another", content, now) }))
	require.Empty(t, pages.Get().Own, "somebody has published it by hand")
}

func TestPatchCarriesAsMuchAsItMay(t *testing.T) {
	t.Parallel()
	s := sifted{going: []tree.Change{
		{Path: "a", Is: tree.File{Size: mostBytes - 10}}, {Path: "b", Kind: tree.Missing}, {Path: "c", Is: tree.File{Size: 20}}, {
			Path: "d",
			Is:   tree.File{Size: 5},
		},
	}}
	s.fit()
	var going []string
	for _, c := range s.going {
		going = append(going, c.Path)
	}
	require.Equal(t, []string{"b", "c", "d"}, going)
	require.Equal(t, "a", s.stays[0].Path)
	require.Contains(t, s.stays[0].Why, "a patch carries at most 1.0 GiB")
}

// A home that is too large is not read to find that out.
func TestHomeThatIsTooLargeIsNotGiven(t *testing.T) {
	t.Parallel()
	_, err := (&packer{trust: &trust{}}).store(t.Context(), bus.HomeOffer{Bytes: patch.DefaultLimit + 1<<30})
	require.EqualError(t, err, "its home has 2.0 GiB, and a server gives at most 1.0 GiB to a new one: copy OMFLOW_HOME there by hand")
}

func TestNamesThatWindowsCannotStore(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newWatchingNode(t, b, "srv1")
	n.start()
	n.drift(undrifted)
	n.write("shot 10:30.png", "x")
	n.report(published(t, n, 1)[0].ID, patch.StateApplied)
	n.drift(undrifted)

	nodes, err := b.Client().JS.KeyValue(t.Context(), bus.BucketNodes)
	require.NoError(t, err)
	beat, err := json.Marshal(bus.Node{Role: bus.ServiceAgent, Name: "far", Agent: &bus.AgentState{OS: "windows"}})
	require.NoError(t, err)
	_, err = nodes.Put(t.Context(), "agent.far", beat)
	require.NoError(t, err)
	n.write("shot 10:31.png", "x")
	n.write("Readme", "x")
	n.write("README", "x")
	stays := staying(n.drift(func(d bus.Drift) bool {
		_, err := nodes.Put(t.Context(), "agent.far", beat) // it lives
		require.NoError(t, err)
		return d.StaysTotal == 2
	}))
	require.Contains(t, stays["shot 10:31.png"], "has a colon")
	require.Contains(t, stays["Readme"], "is the same file as README")
}

// A file that is being written holds up what was changed beside it, and is named from the first look on.
func TestFileThatIsBeingWrittenIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.WatchQuiet = time.Minute
	n.start()
	n.drift(undrifted)
	n.write("omflow/big.zip", "half")
	n.drift(func(d bus.Drift) bool { return d.Moving == "omflow/big.zip" && d.StaysTotal == 0 })
	n.state(func(s bus.AgentState) bool { return s.Moving == "omflow/big.zip" })
}

// A home that takes long to read is read less often.
func TestLargeHomeIsReadLessOften(t *testing.T) {
	t.Parallel()
	pages, err := document.Open[treeBook](filepath.Join(t.TempDir(), treeFile))
	require.NoError(t, err)
	cfg := &Config{FilesConfig: FilesConfig{Watch: watchReport, WatchEvery: time.Second}}
	d := &drift{cfg: cfg, baseline: &baseline{cfg: cfg, pages: pages}, findings: &findings{}, took: time.Minute}
	for _, c := range []struct {
		dirty bool
		age   time.Duration
		due   bool
	}{
		{false, shareOfRest*time.Minute - time.Hour/2, false},
		{false, shareOfRest*time.Minute + time.Hour/2, true},
		{true, shareOfChange*time.Minute - time.Minute*10, false},
		{true, shareOfChange*time.Minute + time.Minute*10, true},
	} {
		d.dirty, d.read = c.dirty, time.Now().Add(-c.age)
		due, again := d.due()
		require.Equal(t, c.due, due, c)
		require.Equal(t, c.dirty && !c.due, again > 0, c)
	}
}
