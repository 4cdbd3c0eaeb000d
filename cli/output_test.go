package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What comes from elsewhere must not steer the terminal, break a line or leave a column empty.
func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	tab := newTable(&out, "NAME", "N", "ERROR")
	tab.row("a", 1, "two\nlines")
	tab.row("longer", 20, "\x1b[2Jclear\u009b")
	tab.row("", 3, "")
	if err := tab.flush(); err != nil {
		t.Fatal(err)
	}
	want := "NAME    N   ERROR\n" +
		"a       1   two lines\n" +
		"longer  20  [2Jclear\n" +
		"-       3   -\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}

func TestIsTerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, stream := range []any{file, &strings.Builder{}, nil} {
		if isTerminal(stream) {
			t.Errorf("%T taken for a terminal", stream)
		}
	}
}

// Wrong usage is one line on standard error and code 2, and nothing is asked of a Booster: there is none here.
func TestUsage(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1")
	for _, c := range []struct {
		line string
		want string
	}{
		{"nonsense", `unknown command "nonsense"`},
		{"work nonsense", `unknown command "nonsense" of work; see ` + "`omflow-booster work --help`"},
		{"dead nonsense", `unknown command "nonsense" of dead`},
		{"status nonsense", `unexpected "nonsense"`},
		{"status --nonsense", "unknown flag: --nonsense; see `omflow-booster status --help`"},
		{"status --watch", "--watch needs a terminal"},
		{"nodes x", `unexpected "x"`},
		{"version x", `unexpected "x"`},
		{"doctor x", `unexpected "x"`},
		{"work ls x", `unexpected "x"`},
		{"work ls --limit 0", "--limit 0 shows nothing"},
		{"work ls --limit many", "invalid argument"},
		{"work show", "wants one step"},
		{"work show q1 q2", "wants one step"},
		{"work show x1", `"x1" is not a step: want q<row> or o<row>`},
		{"work submit a b", "wants one FILE at most"},
		{"work submit /does/not/exist", "no such file"},
		{"work submit --skip -1 -", "--skip -1 is negative"},
		{"dead ls --limit -3", "--limit -3 shows nothing"},
		{"dead show", "wants one step"},
		{"dead retry", "which steps?"},
		{"dead retry 12", `"12" is not a step`},
		{"dead retry q1 --all", "not two of these at once"},
		{"dead retry --all --flow f", "not two of these at once"},
		{"dead purge", "which steps?"},
		{"dead purge --all", "add --yes"},
	} {
		t.Run(c.line, func(t *testing.T) {
			r := run(t, "", strings.Fields(c.line)...)
			if r.code != exitUsage || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, c.want) {
				t.Errorf("code %d, stdout %q, stderr %q; want code 2 and one line with %q", r.code, r.stdout, r.stderr, c.want)
			}
		})
	}
}

// Every command that needs a Booster says so when none answers, with code 1; status, which scripts ask, with the one for no service.
func TestNoBooster(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1")
	for _, line := range []string{
		"status", "status --json", "nodes", "work ls", "work show q1", "work submit -", "dead ls", "dead show q1", "dead retry q1",
		"dead purge q1 --yes",
	} {
		t.Run(line, func(t *testing.T) {
			r := run(t, body("Mail"), strings.Fields(line)...)
			want := exitFailed
			if strings.HasPrefix(line, "status") {
				want = exitNoService
			}
			if r.code != want || r.stdout != "" || !strings.Contains(r.stderr, "no Booster answers") {
				t.Errorf("code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
			}
		})
	}
}

func TestGroupsPrintTheirHelp(t *testing.T) {
	for _, name := range []string{"work", "dead"} {
		r := run(t, "", name)
		if r.code != exitOK || !strings.Contains(r.stdout, "Available Commands:") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Every command for people has a short text, an example and --json.
func TestEveryCommandIsDocumented(t *testing.T) {
	t.Parallel()
	app := &App{}
	own := app.commands()
	for len(own) > 0 {
		cmd := own[0]
		own = append(own[1:], cmd.Commands()...)
		if cmd.Name() == "patch" || cmd.Parent() != nil && cmd.Parent().Name() == "patch" {
			continue
		}
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: no short text or no example", cmd.CommandPath())
		}
		if !cmd.HasSubCommands() && cmd.Flags().Lookup("json") == nil {
			t.Errorf("%s: no --json", cmd.CommandPath())
		}
	}
}

// A command writes text and a document; which of them is printed, --json alone says.
func TestOutputIsTextOrOneDocument(t *testing.T) {
	t.Parallel()
	for want, json := range map[string]bool{"2 steps\n": false, "{\n  \"steps\": 2\n}\n": true} {
		var printed strings.Builder
		out := &output{stdout: &printed, json: json}
		fmt.Fprintln(out, "2 steps")
		if err := out.document(map[string]int{"steps": 2}); err != nil || printed.String() != want || out.terminal() {
			t.Errorf("%q, want %q, error %v", printed.String(), want, err)
		}
	}
}
