package diagnosis

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// Problem is something that an operator should look at. Code is stable, for scripts.
type Problem struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"` // what to do
}

// nearlyFull is the share of a stream's limit from which people are warned: what follows is backpressure.
const nearlyFull = 0.80

const codeMoving = "drift_moving" // a note: every update of a home passes through it

// StateOK is the state of a database that answers.
const StateOK = "ok" // of WorkerState.Database

// findProblems looks at a report only: what it finds can be tested without a bus.
func findProblems(r Report) []Problem {
	problems := []Problem{}
	for _, check := range []func(Report) []Problem{
		streamProblems, boosterProblems, deadProblems, workerProblems, uploadProblems, agentProblems, awayProblems, rolloutProblems,
		func(r Report) []Problem { return r.store.problems() },
	} {
		problems = append(problems, check(r)...)
	}
	return problems
}

func awayProblems(r Report) (found []Problem) {
	for _, a := range r.Away {
		counts := "For a day it counts as a server without service when patches are rolled out"
		if !a.Runs {
			counts = "Until then its home gets no patches"
		}
		found = append(found, Problem{
			"server_away", fmt.Sprintf("%s does not answer since about %s: its agent is stopped, or its host is off", a.Name,
				a.Seen.Local().Format("2006-01-02 15:04")),
			"Start it. " + counts + "; if it is gone for good: omflow-booster nodes forget " + a.Name,
		})
	}
	return found
}

func streamProblems(r Report) (found []Problem) {
	var missing []string
	for _, s := range r.Streams {
		switch {
		case s.Missing:
			missing = append(missing, s.Name)
		case s.Full > nearlyFull:
			hint := "When it is full, the Booster refuses more; nothing that it has is lost."
			if s.Name == bus.StreamWork {
				hint = "When it is full, new steps wait in the database. Add workers, or give the Booster more disk."
			}
			if holdsPatches(s.Name) {
				hint = patchRoom(r.Away)
			}
			found = append(found, Problem{"stream_nearly_full", fmt.Sprintf("%s is %s full", s.Name, text.Percent(s.Full)), hint})
		}
	}
	if len(missing) > 0 {
		found = append(found, Problem{
			"stream_missing", "not there: " + strings.Join(missing, ", "),
			"The Booster is still starting, or somebody removed it: then start the Booster again, which makes it; steps come back from the " +
				"database.",
		})
	} else if r.Work == nil {
		found = append(found, Problem{
			"consumer_missing", "the workers' consumer of " + bus.StreamWork + " is not there",
			"The Booster is still starting, or somebody removed it: the Booster makes it again within seconds.",
		})
	}
	return found
}

// patchRoom says what makes room in the stores of patches.
func patchRoom(away []AwayServer) string {
	hint := "The Booster removes what every server is through with, and when it is pressed for room also what servers need that are away " +
		"or do not get on."
	if len(away) == 0 {
		return hint + " Give it more disk if patches are that large."
	}
	var names []string
	for _, s := range away {
		names = append(names, fmt.Sprintf("%s (last heard %s)", s.Name, s.Seen.Format(time.DateOnly)))
	}
	return hint + " Away: " + strings.Join(names, ", ") + "; for one that does not come back: omflow-booster nodes forget NODE"
}

func boosterProblems(r Report) []Problem {
	if len(r.Boosters) == 0 {
		return []Problem{{
			"no_booster_heartbeat", "no Booster writes its heartbeat, although a server answers",
			"Is `omflow-booster broker` running at the address in BOOSTER_IP?",
		}}
	}
	active := 0
	var found []Problem
	for _, n := range r.Boosters {
		if n.Booster != nil && n.Booster.Duty == dutySilent {
			since := ""
			if !n.At.IsZero() {
				since = " since " + n.At.Local().Format(time.DateTime)
			}
			found = append(found, Problem{
				"booster_silent", fmt.Sprintf("Booster %s (%s) does not answer%s", n.Name, n.Booster.Address, since),
				"Start it, or look at its host and the network to it.",
			})
		}
		if n.Booster == nil || n.Booster.Duty != bus.DutyActive {
			continue
		}
		active++
		if t := n.Booster.Takeover; n.Booster.Mode == bus.ModeStandalone {
			found = append(found, Problem{"one_booster", t, ""})
		} else if t != bus.TakeoverOK && t != "" {
			found = append(found, Problem{"no_takeover", t, ""})
		}
		for _, note := range n.Booster.Notes {
			found = append(found, Problem{"booster_note", note, ""})
		}
	}
	if active == 0 {
		found = append(found, Problem{"no_active_booster", "no Booster is active: leadership is moving, or there is no majority", ""})
	}
	return found
}

// placementProblems are those of boosterProblems that say why nobody would take over, or where the members stand badly.
func placementProblems(r Report) []Problem {
	if len(r.Boosters) == 0 {
		return nil
	}
	return slices.DeleteFunc(boosterProblems(r), func(p Problem) bool { return p.Code != "no_takeover" && p.Code != "booster_note" })
}

func deadProblems(r Report) []Problem {
	if r.Work == nil || r.Work.Dead == 0 {
		return nil
	}
	return []Problem{{
		"dead_steps", text.Counted(r.Work.Dead, "step") + " given up on",
		"Look with `omflow-booster dead ls`, then `omflow-booster dead retry` or `purge`.",
	}}
}

func workerProblems(r Report) (found []Problem) {
	if len(r.Workers) == 0 {
		return []Problem{{
			"no_worker", "no worker: no step is executed",
			"Start `omflow-booster agent` (or `worker`) beside an OMFLOW Server.",
		}}
	}
	reconciler := false
	for _, n := range r.Workers {
		if n.Worker == nil {
			continue
		}
		reconciler = reconciler || n.Worker.Reconciler
		if n.Worker.Database != StateOK {
			found = append(found, Problem{
				"worker_database", fmt.Sprintf("worker %s: database %s", n.Name, OrUnknown(n.Worker.Database)),
				"It takes no steps until its database answers; run `omflow-booster doctor` on " + n.Host + ".",
			})
		}
	}
	if !reconciler {
		found = append(found, Problem{
			"no_reconciler", "no worker is the reconciler: rows without a message are not queued",
			"One takes over within a minute; if not, look at the logs of the workers.",
		})
	}
	return found
}

func agentProblems(r Report) (found []Problem) {
	versions := map[string][]string{} // home version → agents
	for _, n := range r.Agents {
		if n.Agent == nil {
			continue
		}
		versions[n.Agent.HomeVersion] = append(versions[n.Agent.HomeVersion], n.Name)
		if strings.HasPrefix(n.Agent.PatchState, patch.StateFailed) || strings.HasPrefix(n.Agent.PatchState, patch.StateRolledBack) {
			found = append(found, Problem{
				"patch_failed", fmt.Sprintf("agent %s: patch %s", n.Name, n.Agent.PatchState),
				"Look with `omflow-booster patch ls` and at the log of the agent.",
			})
		}
		if n.Agent.PatchAsks {
			found = append(found, Problem{"patch_asks", fmt.Sprintf("agent %s takes no patches, %s", n.Name, n.Agent.PatchState), ""})
		}
		if strings.HasPrefix(n.Agent.PatchState, patch.StateConflict) {
			found = append(found, Problem{
				"patch_conflict", fmt.Sprintf("agent %s: %s", n.Name,
					n.Agent.PatchState), "Later patches wait there until somebody has said what holds.",
			})
		}
		if why, stopped := strings.CutPrefix(n.Agent.PatchState, bus.PatchesStopped); stopped {
			found = append(found, Problem{
				"home_changed", fmt.Sprintf("agent %s: %s", n.Name, text.OneLine(why)),
				"It applies and publishes nothing. Start the agent on " + n.Host + " again if the new directory is meant, or put the old one back.",
			})
		}
		if n.Agent.Held != "" {
			found = append(found, Problem{
				"drift_held", fmt.Sprintf("agent %s holds back %s that %s changed in its home: %s", n.Name,
					text.Counted(n.Agent.Drift, "file"), map[bool]string{true: "was", false: "were"}[n.Agent.Drift == 1], text.OneLine(n.Agent.Held)),
				fmt.Sprintf("If that is meant, `omflow-booster nodes drift %s --publish` brings it to all servers; if not, `omflow-booster nodes "+
					"drift %s --repair` takes it back.",
					n.Name, n.Name),
			})
		} else if n.Agent.Drift > 0 {
			found = append(found, Problem{
				"drift", fmt.Sprintf("agent %s: %s changed in its home, and not by a patch", n.Name, text.Counted(n.Agent.Drift, "file")),
				"Look with `omflow-booster nodes drift " + n.Name + "`; publish the files, or undo the change.",
			})
		}
		if n.Agent.Moving != "" {
			found = append(found, Problem{
				codeMoving, fmt.Sprintf("agent %s: what was changed in its home waits until %s has rested", n.Name, text.OneLine(n.Agent.Moving)),
				"For twelve times AGENT_WATCH_QUIET, a minute by default; a file that never rests stays behind then.",
			})
		}
		if n.Agent.Stays > 0 {
			first := n.Agent.StaysFirst
			found = append(found, Problem{
				"stays_behind", fmt.Sprintf("agent %s: %s of its home cannot be carried to other servers: %s %s", n.Name,
					text.Counted(n.Agent.Stays, "path"), text.OneLine(first.Path), text.OneLine(first.Why)),
				"See all with `omflow-booster nodes drift " + n.Name + "`. Everything else is carried.",
			})
		}
		for _, child := range []struct{ name, state string }{
			{"OMFLOW Server", n.Agent.Server},
			{"worker", n.Agent.Worker},
			{"witness", n.Agent.WitnessState},
		} {
			if child.state == "failing" {
				found = append(found, Problem{
					"child_failing",
					fmt.Sprintf("agent %s: its %s does not stay up: %s (restarts: %d)", n.Name, child.name, OrUnknown(n.Agent.LastError),
						n.Agent.Restarts),
					"More is in server.log and worker.log, or the log of the agent, on " + n.Host + ".",
				})
			}
		}
	}
	found = append(found, differing(r)...)
	if len(versions) > 1 {
		found = append(found, Problem{
			"versions_differ", "OMFLOW versions differ: " + listVersions(versions),
			"Servers on one database need one version; `omflow-booster patch` brings the others up.",
		})
	}
	return found
}

// differing names servers that have dealt with the same patches, and should not have the same files: one has passed a patch
// over, or was always different.
func differing(r Report) (found []Problem) {
	byBaseline := map[string][]string{}
	last := r.store.last // a server that has an announcement which somebody removed since is beyond it
	for _, n := range r.Agents {
		if n.Agent != nil && !r.store.known {
			last = max(last, n.Agent.PatchSeq)
		}
	}
	for _, n := range r.Agents {
		if n.Agent != nil && n.Agent.Baseline != "" && n.Agent.PatchSeq >= last && n.Agent.PatchNext == "" && n.Agent.PatchState != "applying" {
			byBaseline[n.Agent.Baseline] = append(byBaseline[n.Agent.Baseline], n.Name)
		}
	}
	if len(byBaseline) < 2 {
		return nil
	}
	return []Problem{{
		"files_differ", "the same patches, and not the same files: " + listVersions(byBaseline),
		"`omflow-booster nodes drift NODE --repair` makes a server like most of the others; `omflow-booster patch publish --exact DIR` " +
			"makes all alike.",
	}}
}

func listVersions(versions map[string][]string) string {
	var parts []string
	for version, agents := range versions {
		parts = append(parts, OrUnknown(version)+" on "+strings.Join(agents, ", "))
	}
	sort.Strings(parts)
	return strings.Join(parts, "; ")
}

// OrUnknown names what nobody knows.
func OrUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// holdsPatches tells whether a stream holds something of patches, which goes when every server is through with them.
func holdsPatches(stream string) bool {
	return stream == bus.StreamPatch || stream == bus.ObjectStream(bus.ObjectPatches) || stream == bus.BucketStream(bus.BucketRollout)
}

// Values of Report.Health.
const (
	HealthGood     = "good"
	HealthWarnings = "warnings"
	HealthNone     = "no service"
)

// Severity says what a problem costs.
type Severity int

// Severities.
const (
	SeverityNote      Severity = iota // an operator should know it, and nothing is wrong
	SeverityWarning                   // something is wrong
	SeverityNoService                 // no step is taken or queued
)

// Severity of a problem.
func (p Problem) Severity() Severity {
	switch p.Code {
	case CodeNoMajority, "stream_missing", "consumer_missing":
		return SeverityNoService
	case "one_booster", codeRolloutHeld, codeMoving:
		return SeverityNote
	}
	return SeverityWarning
}

// judge sums the problems up.
func (r *Report) judge() {
	worst := SeverityNote
	for _, p := range r.Problems {
		worst = max(worst, p.Severity())
	}
	r.Health = []string{HealthGood, HealthWarnings, HealthNone}[worst]
}
