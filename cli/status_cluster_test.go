package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
)

// A majority that is lost, or leadership that moves, after a command has begun is said in words, and not as the server has it.
func TestSilenceOfTheStreamsIsExplained(t *testing.T) {
	s := newBareStage(t)
	silence := fmt.Errorf("look up WORK: %w", &jetstream.APIError{Code: 503, Description: "JetStream system temporarily unavailable"})
	other := errors.New("no such step")
	booster := func(duty string) bus.Node {
		return bus.Node{Role: bus.ServiceBooster, Name: "booster-1", Booster: &bus.BoosterState{Mode: bus.ModeCluster, Duty: duty}}
	}
	missing := []bus.Member{{Name: "booster-2", Role: bus.ServiceBooster, Address: "10.0.0.2:5169"}}
	lost := bus.ClusterState{Node: booster(bus.DutyStandby), Lost: bus.Moment{Time: time.Now()}, Members: missing}
	for name, c := range map[string]struct {
		state bus.ClusterState
		err   error
		says  string
	}{
		"majority lost":     {lost, silence, "no majority since "},
		"nobody leads":      {bus.ClusterState{Node: booster(bus.DutyStandby), Majority: true}, silence, "leadership is moving"},
		"somebody leads":    {bus.ClusterState{Node: booster(bus.DutyActive), Majority: true}, silence, silence.Error()},
		"something else":    {lost, other, other.Error()},
		"nothing was wrong": {lost, nil, ""},
	} {
		answer, err := json.Marshal(c.state)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := s.c.NC.Subscribe(bus.SubjectCluster, func(m *nats.Msg) { _ = m.Respond(answer) })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.c.NC.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := diagnosis.ExplainSilence(s.ctx, s.c.NC, c.err); (got == nil) != (c.err == nil) || got != nil && !strings.Contains(got.Error(),
			c.says) {
			t.Errorf("%s: %v", name, got)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}
