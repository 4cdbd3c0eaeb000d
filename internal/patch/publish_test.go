package patch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func write(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "artifact.tar.zst")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	return name
}

func TestPublishedPatchIsFoundAndFetched(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS

	noise := make([]byte, 1<<20) // several chunks
	_, err := rand.Read(noise)
	require.NoError(t, err)
	first, m := build(t, map[string]string{"omflow/noise": string(noise), "omflow/a.py": "a"}, Options{Note: "one", Author: "eve"})
	var progress int64
	a, err := Publish(ctx, js, write(t, first), trusted, func(done, total int64) {
		require.EqualValues(t, len(first), total)
		progress = done
	})
	require.NoError(t, err)
	require.EqualValues(t, len(first), progress)
	require.Equal(t, Announcement{
		ID: m.ID, StoredArtifact: StoredArtifact{Object: m.ID, Size: int64(len(first)), SHA256: digest(string(first))},
		Note: "one", Author: "eve",
		Created: m.Created, Files: 2, Bytes: 1<<20 + 1, Seq: 1,
	}, a)

	second, _ := build(t, map[string]string{"x": "x"}, Options{})
	b, err := Publish(ctx, js, write(t, second), trusted, nil)
	require.NoError(t, err)
	again, err := Publish(ctx, js, write(t, first), trusted, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, again.Seq, "the same patch is not announced twice")

	list, err := List(ctx, js)
	require.NoError(t, err)
	require.Equal(t, []Announcement{a, b}, list)

	var got bytes.Buffer
	require.NoError(t, Fetch(ctx, js, a, &got))
	require.Equal(t, first, got.Bytes())

	_, err = Publish(ctx, js, write(t, []byte("not a patch")), trusted, nil)
	require.ErrorIs(t, err, ErrInvalid)
}

// A store or stream without room is named with what to do, and what had been stored before stays.
func TestPublishWithoutRoomSaysWhatToDo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	small, _ := build(t, map[string]string{"x": "x"}, Options{})
	for _, stream := range []string{bus.ObjectStream(bus.ObjectPatches), bus.StreamPatch} {
		full, err := js.Stream(ctx, stream)
		require.NoError(t, err)
		cfg := full.CachedInfo().Config
		was := cfg.MaxBytes
		cfg.MaxBytes = 10
		_, err = js.UpdateStream(ctx, cfg)
		require.NoError(t, err)
		_, err = Publish(ctx, js, write(t, small), trusted, nil)
		require.ErrorContains(t, err, "the Booster has no room left for patches: `omflow-booster status` says what keeps the room")
		cfg.MaxBytes = was
		_, err = js.UpdateStream(ctx, cfg)
		require.NoError(t, err)
	}
	_, err := Publish(ctx, js, write(t, small), trusted, nil)
	require.NoError(t, err, "there is room again")
}

func TestFetchSaysWhenTheStoreHasSomethingElse(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	artifact, _ := build(t, map[string]string{"x": "x"}, Options{})
	a, err := Publish(ctx, js, write(t, artifact), trusted, nil)
	require.NoError(t, err)

	other := a
	other.SHA256 = digest("other")
	require.ErrorIs(t, Fetch(ctx, js, other, &bytes.Buffer{}), ErrMissing)

	objects, err := js.ObjectStore(ctx, bus.ObjectPatches)
	require.NoError(t, err)
	_, err = objects.PutString(ctx, a.Object, "replaced")
	require.NoError(t, err)
	require.ErrorIs(t, Fetch(ctx, js, a, &bytes.Buffer{}), ErrMissing)
	require.NoError(t, objects.Delete(ctx, a.Object))
	require.ErrorIs(t, Fetch(ctx, js, a, &bytes.Buffer{}), ErrMissing)
}

func TestMessageThatIsNoAnnouncement(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	for _, body := range []string{"no JSON", `{"id":"other"}`, `{"id":"p2","object":"x","size":1,"sha256":"x"}`} {
		_, err := js.Publish(ctx, bus.AnnounceSubject("p2"), []byte(body))
		require.NoError(t, err)
	}
	stream, err := js.Stream(ctx, bus.StreamPatch)
	require.NoError(t, err)
	for seq := uint64(1); seq <= 3; seq++ {
		a, err := Next(ctx, stream, seq)
		require.ErrorIs(t, err, ErrInvalid)
		require.Equal(t, "p2", a.ID)
		require.Equal(t, seq, a.Seq)
	}
	_, err = Next(ctx, stream, 4)
	require.ErrorIs(t, err, ErrNoMore)
}

func TestReports(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	none, err := Reports(ctx, js)
	require.NoError(t, err)
	require.Empty(t, none)
	b := Report{Patch: "p1", Node: "host.b", State: StateApplied, Written: Written{Files: 2}}
	a := Report{Patch: "p1", Node: "host.a", State: StateFailed, Error: errors.New("no").Error()}
	require.NoError(t, PutReport(ctx, js, b))
	require.NoError(t, PutReport(ctx, js, a))
	got, err := Reports(ctx, js)
	require.NoError(t, err)
	require.Equal(t, map[string][]Report{"p1": {a, b}}, got)
}

// What Windows cannot store is refused where there is a Windows server, and carried where there is none.
func TestRulesOfWindowsBindWhereItIs(t *testing.T) {
	t.Parallel()
	bad := map[string]string{
		"shot 10:30.png": "colon", `omflow\..\x.py`: "backslash", "omflow/x.py.": "ends in a dot", "omflow/A.py": "same file on a Windows server",
		"a/nul": "reserved", "Con.txt": "reserved", "what?.txt": "cannot store",
	}
	fleets := map[string]jetstream.JetStream{}
	for _, system := range []string{"linux", "windows"} {
		js := bustest.New(t, bustest.Layout()).Client().JS
		nodes, err := js.KeyValue(t.Context(), bus.BucketNodes)
		require.NoError(t, err)
		beat, err := json.Marshal(bus.Node{Role: bus.ServiceAgent, Name: "far", Agent: &bus.AgentState{OS: system}})
		require.NoError(t, err)
		_, err = nodes.Put(t.Context(), "agent.far", beat)
		require.NoError(t, err)
		fleets[system] = js
	}
	for name, says := range bad {
		data, _ := build(t, map[string]string{"omflow/a.py": "a", name: "x"}, Options{})
		_, err := Store(t.Context(), fleets["linux"], write(t, data), trusted, nil)
		require.NoError(t, err, name)
		_, err = Store(t.Context(), fleets["windows"], write(t, data), trusted, nil)
		require.ErrorIs(t, err, ErrInvalid, name)
		require.ErrorContains(t, err, says)
	}
}

func TestSecretsAreCarriedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{
		"omflow/a.py":                        {Data: []byte("a")},
		"omflow/settings.py.before-20260131": {Data: []byte("PASSWORD")},
		"key":                                {Data: []byte("-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("QUJD", 16))},
	}
	_, err := Build(io.Discard, dir, Options{Signer: ann})
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "key (a private key), omflow/settings.py.before-20260131 (a copy of the server's settings)")
	m, err := Build(io.Discard, dir, Options{Signer: ann, Selection: Selection{Secrets: true}})
	require.NoError(t, err)
	require.Len(t, m.Files, 3)
}
