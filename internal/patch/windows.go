package patch

import (
	"context"
	"runtime"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// onWindows tells by whose rules this server stores files. An agent judges for itself; who publishes judges for all servers that are alive.
const onWindows = runtime.GOOS == "windows"

// reserved are names of devices there, whatever follows after a dot.
var reserved = map[string]bool{
	"con": true, "prn": true, "aux": true, "nul": true, "conin$": true, "conout$": true,
	"com1": true, "com2": true, "com3": true, "com4": true, "com5": true, "com6": true, "com7": true, "com8": true, "com9": true,
	"lpt1": true, "lpt2": true, "lpt3": true, "lpt4": true, "lpt5": true, "lpt6": true, "lpt7": true, "lpt8": true, "lpt9": true,
}

// WindowsProblem is PathProblem for a Windows server.
func WindowsProblem(name string) string {
	switch {
	case strings.ContainsRune(name, '\\'):
		return "has a backslash, which separates directories on a Windows server; use forward slashes"
	case strings.ContainsRune(name, ':'):
		return "has a colon, which a Windows server cannot store"
	case strings.ContainsAny(name, `<>"|?*`):
		return `has one of <>"|?* in its name, which a Windows server cannot store`
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
			return "has a name that ends in a dot or space, which a Windows server drops"
		}
		if device, _, _ := strings.Cut(strings.ToLower(part), "."); reserved[strings.TrimSpace(device)] {
			return "has a name that is reserved on a Windows server"
		}
	}
	return ""
}

// WindowsThere tells whether a living agent has its home on Windows.
func WindowsThere(ctx context.Context, js jetstream.JetStream) (bool, error) {
	nodes, err := bus.Nodes(ctx, js)
	for _, n := range nodes {
		if n.Agent != nil && n.Agent.OS == "windows" {
			return true, nil
		}
	}
	return false, err
}

// checkWindows refuses a manifest that a Windows server would refuse, if there is one.
func (m Manifest) checkWindows(ctx context.Context, js jetstream.JetStream) error {
	wrong := m.windowsProblem()
	if wrong == nil {
		return nil
	}
	there, err := WindowsThere(ctx, js)
	if err != nil || !there {
		return err
	}
	return wrong
}

func (m Manifest) windowsProblem() error {
	folded := map[string]string{}
	for _, f := range m.Files {
		if why := WindowsProblem(f.Path); why != "" {
			return invalid("path %.300q %s", f.Path, why)
		}
		fold := strings.ToLower(f.Path)
		if other, ok := folded[fold]; ok {
			return invalid("paths %q and %q are the same file on a Windows server", other, f.Path)
		}
		folded[fold] = f.Path
	}
	return nil
}
