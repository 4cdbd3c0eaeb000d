//go:build linux

package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const (
	largeFiles    = 200
	largeFile     = 1 << 20
	largeTimeout  = 15 * time.Minute
	agentMemoryMB = 64 // that a host has to have for an agent, whatever the patch
)

// BenchmarkLargePatch publishes 200 MB that cannot be compressed to five agents without servers: from the command to the last report, one
// agent after the other, on one machine. It fails if an agent needs more memory than we promise.
func BenchmarkLargePatch(b *testing.B) {
	booster := startBooster(b, env{"BOOSTER_STORE_MB": "2048", "LOG_LEVEL": "info"})
	var agents []*agent
	for i := range fleetSize {
		agents = append(agents, startAgent(b, fmt.Sprintf("server-%d", i+1), booster, dir(b), env{"AGENT_WORKER": "off", "LOG_LEVEL": "info"}))
	}
	random := rand.NewChaCha8([32]byte{})
	for range b.N {
		b.StopTimer()
		source := dir(b)
		data := make([]byte, largeFile)
		for i := range largeFiles {
			_, _ = random.Read(data)
			if err := os.WriteFile(filepath.Join(source, fmt.Sprintf("%03d.bin", i)), data, 0o600); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		began := time.Now()
		id := query[struct{ ID string }](b, booster, "patch", "publish", source).ID
		published := time.Since(began)
		for done := 0; done < fleetSize; {
			if time.Since(began) > largeTimeout {
				b.Fatalf("%d of %d agents have it after %s", done, fleetSize, largeTimeout)
			}
			time.Sleep(100 * time.Millisecond)
			done = 0
			reports, err := patch.Reports(b.Context(), agents[0].bus.JS)
			if err != nil {
				b.Fatal(err)
			}
			for _, r := range reports[id] {
				if r.State != patch.StateApplied || r.Files != largeFiles {
					b.Fatalf("%+v", r)
				}
				done++
			}
		}
		b.ReportMetric(published.Seconds(), "publish-s")
		b.ReportMetric(time.Since(began).Seconds(), "all-s")
	}
	for _, a := range agents {
		mb := peakMemory(b, a.pid())
		b.Logf("%s: VmHWM %.1f MB", a.name, mb)
		b.ReportMetric(mb, a.name+"-MB")
		if mb > agentMemoryMB {
			b.Errorf("%s needed %.1f MB, want %d at most", a.name, mb, agentMemoryMB)
		}
	}
	b.ReportMetric(peakMemory(b, booster.pid()), "booster-MB")
}

var hwm = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peakMemory is the most memory that a process had resident, in MB.
func peakMemory(t testing.TB, pid int) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := hwm.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return float64(kb) / 1024
}
