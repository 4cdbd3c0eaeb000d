package bustest

import (
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
)

// Times of the nodes below.
var (
	Noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	started = Noon.Add(-90 * time.Minute)
)

// BoosterNode is a standby Booster of two.
func BoosterNode(name string) bus.Node {
	return bus.Node{
		Role: bus.ServiceBooster, Name: name, Host: name + ".example", PID: 10, Version: "v1.0.0", Started: started, At: Noon,
		Booster: &bus.BoosterState{
			Mode: "cluster", Duty: bus.DutyStandby, Address: "10.0.0.5:5169", Sync: "always", StoreBytes: 3 << 20, StoreLimit: 20 << 30,
		},
	}
}

// ActiveNode is the active Booster of two, with what it says of a takeover.
func ActiveNode(name, takeover string) bus.Node {
	n := BoosterNode(name)
	n.Booster.Duty, n.Booster.Takeover = bus.DutyActive, takeover
	return n
}

// WorkerNode is a worker without a problem, changed.
func WorkerNode(name string, change func(*bus.WorkerState)) bus.Node {
	state := &bus.WorkerState{
		Server: "om1", Executor: "runner", Slots: 4, Running: 1, WorkerCounts: bus.WorkerCounts{Done: 12345, Failed: 2, Redelivered: 1},
		WorkerDatabase: bus.WorkerDatabase{Database: "ok"}, Reconciler: true,
	}
	change(state)
	return bus.Node{
		Role: bus.ServiceWorker, Name: name, Host: name + ".example", PID: 11, Version: "v1.0.0", Started: started, At: Noon,
		Worker: state,
	}
}

// AgentNode is an agent without a problem, changed.
func AgentNode(name string, change func(*bus.AgentState)) bus.Node {
	state := &bus.AgentState{
		HomeVersion: "1.1.4.0", AgentPatches: bus.AgentPatches{PatchSeq: 3, PatchState: "current"},
		AgentWitness:  bus.AgentWitness{WitnessState: "running"},
		AgentChildren: bus.AgentChildren{Server: "running", Worker: "running", ServerPID: 20, WorkerPID: 21},
	}
	change(state)
	return bus.Node{
		Role: bus.ServiceAgent, Name: name, Host: name + ".example", PID: 12, Version: "v1.0.0", Started: started, At: Noon,
		Agent: state,
	}
}

// AsIs changes nothing.
func AsIs[T any](*T) {}

// FilesOf is a worker that sees these marks in its directory of uploaded files.
func FilesOf(name, dir string, marks ...string) bus.Node {
	return WorkerNode(name, func(s *bus.WorkerState) { s.Server, s.Uploads = name, &uploads.State{Dir: dir, Marks: marks} })
}
