package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// answerTimeout bounds every single question that a command asks a Booster, a worker or a database.
const answerTimeout = 5 * time.Second

// dial connects the way an operator does: where the environment says the Boosters are, and only now.
// It fails with bus.ErrNoBooster, or a *config.Error for a wrong variable. The caller closes the client.
func (a *App) dial() (*bus.Client, error) {
	var cfg bus.ClientConfig
	if err := config.Load(&cfg); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return bus.Dial(cfg, "omflow-booster operator on "+host)
}

// withBus runs do over an operator's connection and closes it afterwards. Without a majority nothing that the Boosters hold can
// be read or changed, and some questions are answered as if there was nothing: then a *bus.NoMajorityError says so at once.
func (a *App) withBus(do func(c *bus.Client) error) error {
	c, err := a.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := context.Background()
	if err := bus.AskCluster(ctx, c.NC).Err(); err != nil {
		return err
	}
	return diagnosis.ExplainSilence(ctx, c.NC, do(c))
}

// ask bounds one question.
func ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerTimeout)
}

// group is a command that only has subcommands. Without one it prints its help; an unknown one is wrong usage.
func group(use, short, long, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    long,
		Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q of %s; see `%s --help`", args[0], cmd.Name(), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// args is a cobra.PositionalArgs that wants low to high words (high < 0: any number) and calls them what.
func args(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) >= low && (high < 0 || len(given) <= high) {
			return nil
		}
		if len(given) > 0 && high == 0 {
			return usageError{fmt.Errorf("unexpected %q; `%s` takes no arguments", given[0], cmd.CommandPath())}
		}
		return usageError{fmt.Errorf("`%s` wants %s; see `%s --help`", cmd.CommandPath(), what, cmd.CommandPath())}
	}
}

// noArgs is args for a command without any.
func noArgs() cobra.PositionalArgs { return args(0, 0, "") }

// output is where a command prints. Text for people goes through Write; with --json it is dropped, and the command prints one
// indented document with stable snake_case fields instead. So a command writes both, and no command asks which is wanted.
type output struct {
	stdout io.Writer
	json   bool
}

// output adds --json, which every command for people has.
func (a *App) output(cmd *cobra.Command) *output {
	o := &output{stdout: a.Stdout}
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON document")
	return o
}

// Write takes text for people.
func (o *output) Write(text []byte) (int, error) {
	if o.json {
		return len(text), nil
	}
	return o.stdout.Write(text)
}

// document is what programs read: it is printed with --json alone.
func (o *output) document(v any) error {
	if !o.json {
		return nil
	}
	return printJSON(o.stdout, v)
}

// terminal tells whether a person looks at the text.
func (o *output) terminal() bool { return !o.json && isTerminal(o.stdout) }

// printJSON writes one indented document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// isTerminal tells whether a stream of the App is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// table prints aligned columns, under a header if columns are named. Cells are made safe for a terminal.
type table struct {
	out    io.Writer
	indent string
	lines  [][]string
}

func newTable(w io.Writer, columns ...string) *table {
	t := &table{out: w}
	if len(columns) > 0 {
		t.lines = append(t.lines, columns)
	}
	return t
}

// row adds one line; an empty cell is shown as "-".
func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = text.OneLine(fmt.Sprint(cell))
		if texts[i] == "" {
			texts[i] = "-"
		}
	}
	t.lines = append(t.lines, texts)
}

// flush writes the table. Nothing is printed before.
func (t *table) flush() error {
	tw := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', 0)
	for _, cells := range t.lines {
		fmt.Fprintln(tw, t.indent+strings.Join(cells, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	return nil
}
