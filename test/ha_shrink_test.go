//go:build linux

package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/broker"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Two Boosters become one by order, two again, and one after a disaster, while people file tickets.
func TestTwoBoostersBecomeOneAndTwoAgain(t *testing.T) {
	t.Parallel()
	// given two Boosters and a witness
	s, p := startPairSite(t, 2, nil)
	s.fileTickets()
	s.afterSteps(10)
	first, second := p.boosters[0], p.boosters[1]

	// when an operator wants the other one to be active
	active, standby := p.roles()
	handed := query[struct{ Former, Active string }](t, first, "cluster", "step-down")
	if handed.Former != active.vars["BOOSTER_NAME"] || handed.Active != standby.vars["BOOSTER_NAME"] {
		t.Errorf("step-down says %+v, and %s was active", handed, active.name)
	}
	if now, _ := p.roles(); now != standby {
		t.Errorf("%s is active after the step-down of %s", now.name, active.name)
	}
	s.afterSteps(10)

	// when the first one shall go on alone
	first.stop()
	report := shrink(t, first, "shrink")
	if report.Booster != first.vars["BOOSTER_NAME"] || report.Streams != bus.Streams-1 {
		t.Errorf("shrink took along %+v", report)
	}
	if code := second.exitCode(stopTimeout); code != 0 {
		t.Errorf("the other Booster ended with code %d when it was told to leave", code)
	}
	p.startSingle(first)
	s.afterSteps(10)
	// then the other one does not come back with what it has, and there is no witness any more
	second.again()
	if code := second.exitCode(startTimeout); code != 2 || !strings.Contains(second.output(), "has left its cluster") {
		t.Errorf("the Booster that has left ended with code %d", code)
	}
	p.await("the witness to be dismissed", func(ctx context.Context) error {
		var errs []error // any of them may have been appointed
		for _, srv := range s.servers {
			state, err := srv.agent.state(ctx)
			if err == nil && state.WitnessState != "none" {
				err = fmt.Errorf("the witness of %s is %s", srv.name, state.WitnessState)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})

	// when there is a second one again
	first.stop()
	second.wipe()
	p.together()
	s.afterSteps(10)

	// when the second one and the witness are lost, and the first one is all that is left
	second.kill()
	p.killWitness()
	first.kill()
	second.wipe()
	refusal{args: "cluster recover", vars: first.vars, code: 2, says: []string{"--others-are-fenced=booster-1"}}.check(t)
	refusal{args: "cluster recover --others-are-fenced=booster-2", vars: first.vars, code: 2, says: []string{"nothing was changed"}}.check(t)
	shrink(t, first, "recover", "--others-are-fenced=booster-1")
	p.startSingle(first)
	s.afterSteps(10)

	// then every step was done once
	s.booster = first
	s.finish()
}

// shrink runs a command that makes a single Booster of one that has ended.
func shrink(t testing.TB, b *booster, args ...string) (report broker.ShrinkReport) {
	t.Helper()
	began := time.Now()
	a := ask(t, b.vars, "", append([]string{"cluster"}, append(args, "--json")...)...)
	if err := json.Unmarshal([]byte(a.stdout), &report); err != nil || a.code != 0 {
		t.Fatalf("cluster %s: code %d\n%s%s", strings.Join(args, " "), a.code, a.stdout, lastLines(a.stderr, 100))
	}
	t.Logf("cluster %s: %+v in %s", args[0], report, time.Since(began))
	return report
}

// startSingle starts a Booster without the other one.
func (p *pair) startSingle(b *booster) {
	p.t.Helper()
	b.vars = merge(b.vars, env{"HA_BOOSTER_IP": ""})
	b.restart()
	p.await(b.name+" to be the only one", func(ctx context.Context) error {
		nodes, err := bus.Nodes(ctx, p.bus.JS)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Booster != nil && n.PID == b.pid() && n.Booster.Mode == bus.ModeStandalone && n.Booster.Duty == bus.DutyActive {
				return nil
			}
		}
		return errors.New("its heartbeat does not say so")
	})
}

// together starts both Boosters and waits for the witness.
func (p *pair) together() {
	p.t.Helper()
	since := time.Now()
	for _, b := range p.boosters {
		b.vars = merge(b.vars, env{"HA_BOOSTER_IP": "127.0.0.1"})
		b.again()
	}
	p.healed(since)
}
