package doctor

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// CheckEnvironment names the findings about the settings themselves.
const CheckEnvironment = "environment"

// settings is the environment beside what the services know of it.
type settings struct {
	configs  []any             // of the services, for config.Load
	defaults map[string]string // known variable → default
	set      map[string]string // variable → value
}

func readSettings(environ []string, configs []any) settings {
	s := settings{configs: configs, defaults: map[string]string{}, set: map[string]string{}}
	for _, spec := range configs {
		for _, v := range config.Variables(spec) {
			s.defaults[v.Name] = v.Default
		}
	}
	for _, pair := range environ {
		if name, value, found := strings.Cut(pair, "="); found {
			s.set[name] = value
		}
	}
	return s
}

// value is what a service uses for a variable; chosen tells whether somebody set it.
func (s settings) value(name string) (value string, chosen bool) {
	if value, chosen = s.set[name]; chosen && value != "" {
		return value, true
	}
	return s.defaults[name], false
}

// ourPrefixes mark variables that are meant for us, also if misspelt. OMFLOW_ is not among them: the OMFLOW Server has its own.
var ourPrefixes = []string{"BOOSTER_", "WORKER_", "AGENT_", "SECOND_BOOSTER_", "HA_BOOSTER_", "LOG_"}

// environment finds variables that no service knows, and values that no service takes.
func (d Host) environment(context.Context) []diagnosis.Finding {
	findings := append(d.unknown(), d.invalid()...)
	if len(findings) > 0 {
		return findings
	}
	known := 0
	for name := range d.settings.set {
		if _, ok := d.settings.defaults[name]; ok {
			known++
		}
	}
	return []diagnosis.Finding{diagnosis.OK(CheckEnvironment,
		fmt.Sprintf("%s set, the others have their defaults", text.Counted(known, "variable")))}
}

func (d Host) unknown() (findings []diagnosis.Finding) {
	for _, name := range sortedKeys(d.settings.set) {
		if _, known := d.settings.defaults[name]; known || !hasOurPrefix(name) {
			continue
		}
		f := diagnosis.Warning(CheckEnvironment, name+" is set, but no service knows it",
			"remove it; `omflow-booster broker --env` lists what there is")
		if near := nearest(name, sortedKeys(d.settings.defaults)); near != "" {
			f.Fix = "did you mean " + near + "?"
		}
		findings = append(findings, f)
	}
	return findings
}

// invalid loads each configuration as its service would. What is only missing is no mistake here: a host has one of the
// services, not all.
func (d Host) invalid() (findings []diagnosis.Finding) {
	reported := map[string]bool{}
	for _, spec := range d.settings.configs {
		var wrong *config.Error
		if err := config.Load(spec); !errors.As(err, &wrong) || reported[wrong.Error()] {
			continue
		}
		if d.settings.set[wrong.Var] == "" {
			continue
		}
		reported[wrong.Error()] = true
		findings = append(findings, diagnosis.Failure(CheckEnvironment, wrong.Var+": "+wrong.Problem, wrong.Fix))
	}
	return findings
}

func hasOurPrefix(name string) bool {
	for _, prefix := range ourPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// nearest returns the known name that differs least from a misspelt one, or "" if none is close.
func nearest(name string, known []string) string {
	best, bestDistance := "", max(2, len(name)/4)+1
	for _, candidate := range known {
		if d := distance(name, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
