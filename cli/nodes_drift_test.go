package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// Servers that are on the same patches and differ are shown as wrong, though nothing was changed by hand on any of them.
func TestServersThatDifferAreNotRight(t *testing.T) {
	s := newStage(t)
	one := bus.Drift{Node: "om1", Watch: "publish", Baseline: "a", Seq: 7}
	for _, name := range []string{"om1", "om2"} {
		node := bustest.AgentNode(name, bustest.AsIs)
		node.At = time.Now()
		s.putNode(node)
	}
	for name, c := range map[string]struct {
		other bus.Drift
		code  int
		says  string
	}{
		"the same":          {bus.Drift{Node: "om2", Watch: "publish", Baseline: "a", Seq: 7}, exitOK, ""},
		"another one":       {bus.Drift{Node: "om2", Watch: "publish", Baseline: "b", Seq: 7}, exitFailed, "do not have the same files"},
		"not there yet":     {bus.Drift{Node: "om2", Watch: "publish", Baseline: "b", Seq: 6}, exitOK, ""},
		"nobody watches it": {bus.Drift{Node: "om2", Watch: "off", Seq: 7}, exitOK, ""},
		"changed by hand":   {bus.Drift{Node: "om2", Watch: "report", Baseline: "a", Seq: 7, Total: 1}, exitFailed, "changed by hand"},
	} {
		sub, err := s.c.NC.Subscribe(bus.DriftSubject, func(m *nats.Msg) {
			for _, d := range []bus.Drift{one, c.other} {
				data, _ := json.Marshal(d)
				_ = m.Respond(data)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.c.NC.Flush(); err != nil {
			t.Fatal(err)
		}
		if r := run(t, "", "nodes", "drift"); r.code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: %+v", name, r)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}
