package runner

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkRunnerStep measures round trips of empty steps: item out, answer back. One caller for each runner.
func BenchmarkRunnerStep(b *testing.B) {
	python := exampleConfig(b)
	python.Command = []string{"sh", "-c", "exec " + python.Command[0] + " " + example + " 2>/dev/null"} // without its prints
	for _, c := range []struct {
		name string
		cfg  Config
		size int
	}{
		{"go/1", testConfig("runner"), 1},
		{"go/cores", testConfig("runner"), runtime.GOMAXPROCS(0)},
		{"python/1", python, 1},
		{"python/cores", python, runtime.GOMAXPROCS(0)},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.cfg.Size = c.size
			p, _, _ := startPool(b, c.cfg)
			require.NoError(b, p.Execute(b.Context(), newStep("ok", map[string]any{})))
			calls := make(chan struct{})
			ended := make(chan error, c.size)
			b.ResetTimer()
			for range c.size {
				go func() {
					for range calls {
						if err := p.Execute(b.Context(), newStep("ok", map[string]any{})); err != nil {
							ended <- err
							return
						}
					}
					ended <- nil
				}()
			}
			for range b.N {
				calls <- struct{}{}
			}
			close(calls)
			for range c.size {
				require.NoError(b, <-ended)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "steps/s")
		})
	}
}
