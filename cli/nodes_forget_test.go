package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// A server that is switched off is in status until somebody forgets it.
func TestServerThatIsGoneIsForgotten(t *testing.T) {
	s := newStage(t)
	for name, runs := range map[string]bool{"srv1": true, "srv2": true, "files": false} {
		data, err := json.Marshal(rollout.Known{Name: name, Runs: runs, Seen: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.c.JS.Publish(s.ctx, "$KV."+bus.BucketRollout+".server."+name, data); err != nil {
			t.Fatal(err)
		}
	}
	s.putNode(runningServer("srv1", ""))
	away := func() bool { return strings.Contains(run(t, "", "status").stdout, "srv2 does not answer since about") }
	if !away() {
		t.Fatalf("%+v", run(t, "", "status"))
	}
	// an agent that starts no server is missed, too
	if r := run(t, "", "nodes"); !strings.Contains(r.stdout, "files does not answer since about") {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "", "nodes", "forget", "srv1"); r.code != exitFailed || !strings.Contains(r.stderr, "srv1 is alive; stop its agent first") {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "", "nodes", "forget", "srv3"); r.code != exitFailed || !strings.Contains(r.stderr, "no server srv3 is known") {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "", "nodes", "forget", "srv2", "--json"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if away() {
		t.Fatal("it is still missed")
	}
}
