package cli

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// booster puts the heartbeat of an active Booster on the stage.
func (s *stage) booster(mode string) {
	s.t.Helper()
	s.putNode(bus.Node{Role: bus.ServiceBooster, Name: "booster-1", Booster: &bus.BoosterState{Mode: mode, Duty: bus.DutyActive}})
}

// answerStepDown is the Booster's side of a step-down.
func (s *stage) answerStepDown(answer *nats.Msg) {
	s.t.Helper()
	_, err := s.c.NC.Subscribe(bus.StepDownSubject("booster-1"), func(m *nats.Msg) { _ = m.RespondMsg(answer) })
	if err == nil {
		err = s.c.NC.Flush()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestStepDown(t *testing.T) {
	s := newStage(t)
	s.booster(bus.ModeCluster)
	s.answerStepDown(&nats.Msg{Data: []byte(`{"active":"booster-2"}`)})
	if r := run(t, "", "cluster", "step-down"); r.code != exitOK || r.stdout != "booster-2 is active now; it was booster-1\n" {
		t.Errorf("%+v", r)
	}
	var printed struct{ Former, Active string }
	r := run(t, "", "cluster", "step-down", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &printed); err != nil || printed.Former != "booster-1" || printed.Active != "booster-2" {
		t.Errorf("%v %+v", err, r)
	}
}

// A Booster of the release before does not say what it is when it is asked. Its heartbeat does.
func TestStepDownToABoosterOfTheReleaseBefore(t *testing.T) {
	s := newStage(t)
	s.booster(bus.ModeCluster)
	var stepped atomic.Bool
	for subject, answer := range map[string]nats.MsgHandler{
		bus.StepDownSubject("booster-1"): func(m *nats.Msg) {
			stepped.Store(true)
			s.putNode(bus.Node{Role: bus.ServiceBooster, Name: "booster-2", Booster: &bus.BoosterState{Mode: bus.ModeCluster, Duty: bus.DutyActive}})
			_ = m.Respond([]byte(`{"active":"booster-2"}`))
		},
		bus.SubjectCluster: func(m *nats.Msg) {
			state := bus.ClusterState{Majority: true}
			state.Node = bus.Node{
				Role: bus.ServiceBooster, Name: "booster-1",
				Booster: &bus.BoosterState{Mode: bus.ModeCluster, Duty: bus.DutyActive},
			}
			if stepped.Load() {
				state.Booster.Duty = bus.DutyStandby
			}
			data, _ := json.Marshal(state)
			_ = m.Respond(data)
		},
	} {
		if _, err := s.c.NC.Subscribe(subject, answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.c.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "cluster", "step-down"); r.code != exitOK || r.stdout != "booster-2 is active now; it was booster-1\n" {
		t.Errorf("%+v", r)
	}
}

func TestStepDownThatIsNotPossible(t *testing.T) {
	for says, given := range map[string]func(s *stage){
		"no Booster is active":          func(*stage) {},
		"booster-1 is the only Booster": func(s *stage) { s.booster(bus.ModeStandalone) },
		"booster-1 does not answer":     func(s *stage) { s.booster(bus.ModeCluster) },
		"booster-1 did not step down: nobody is there": func(s *stage) {
			s.booster(bus.ModeCluster)
			s.answerStepDown(&nats.Msg{Header: nats.Header{micro.ErrorHeader: {"nobody is there"}}})
		},
	} {
		t.Run(says, func(t *testing.T) {
			s := newStage(t)
			given(s)
			if r := run(t, "", "cluster", "step-down"); r.code != exitFailed || !strings.Contains(r.stderr, says) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestShrinkNeedsAMember(t *testing.T) {
	useBooster(t, "")
	t.Setenv("BOOSTER_DATA_DIR", t.TempDir())
	for _, command := range []string{"shrink", "recover"} {
		if r := run(t, "", "cluster", command); r.code != exitUsage || !strings.Contains(r.stderr, "HA_BOOSTER_IP") {
			t.Errorf("%s: %+v", command, r)
		}
	}
	t.Setenv("BOOSTER_IP", "127.0.0.1")
	t.Setenv("HA_BOOSTER_IP", "127.0.0.2")
	for _, command := range []string{"shrink", "recover"} {
		if r := run(t, "", "cluster", command); r.code != exitUsage || !strings.Contains(r.stderr, "is no member of a cluster") {
			t.Errorf("%s: %+v", command, r)
		}
	}
}
