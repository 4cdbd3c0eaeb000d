package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/broker"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// handOverTimeout is how long a Booster may take to hand over.
const handOverTimeout = 15 * time.Second

func (a *App) clusterCommand() *cobra.Command {
	return group("cluster", "Two Boosters: who is active, and from two back to one",
		"Two Boosters: who is active, and from two back to one. `omflow-booster status` shows how they are.",
		"  omflow-booster cluster step-down\n  omflow-booster cluster shrink",
		a.stepDownCommand(), a.shrinkCommand(), a.recoverCommand(), a.clusterDatabaseCommand())
}

func (a *App) stepDownCommand() *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "step-down",
		Short: "Make the other Booster the active one",
		Long: "Make the other Booster the active one, for example before work on the host of the one that is active. Nobody\n" +
			"has to wait for it.",
		Example: "  omflow-booster cluster step-down",
		Args:    noArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBus(func(c *bus.Client) error { return a.stepDown(cmd.Context(), c, out) })
		},
	}
	out = a.output(cmd)
	return cmd
}

func (a *App) stepDown(ctx context.Context, c *bus.Client, out *output) error {
	former, err := diagnosis.ActiveBooster(ctx, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	reply, err := c.NC.RequestWithContext(ctx, bus.StepDownSubject(former), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s does not answer; see `omflow-booster status`", text.OneLine(former))
	case err != nil:
		return fmt.Errorf("ask %s to step down: %w", text.OneLine(former), err)
	case reply.Header.Get(micro.ErrorHeader) != "":
		return fmt.Errorf("%s did not step down: %s", text.OneLine(former), text.OneLine(reply.Header.Get(micro.ErrorHeader)))
	}
	var done bus.SteppedDown
	if err := json.Unmarshal(reply.Data, &done); err != nil {
		return fmt.Errorf("answer of %s: %w", text.OneLine(former), err)
	}
	if err := awaitActive(ctx, c, done.Active); err != nil {
		return fmt.Errorf("%s has stepped down: %w", text.OneLine(former), err)
	}
	fmt.Fprintf(out, "%s is active now; it was %s\n", text.OneLine(done.Active), text.OneLine(former))
	return out.document(map[string]string{"former": former, "active": done.Active})
}

// staysActive is how long a Booster has to be the active one before the command says so.
const staysActive = time.Second

// awaitActive returns when a Booster is active and stays it, as the Boosters themselves say. One of an older release says
// nothing: its heartbeat does.
func awaitActive(ctx context.Context, c *bus.Client, successor string) error {
	var since time.Time
	for {
		asked := time.Now()
		cluster := bus.AskCluster(ctx, c.NC)
		active := cluster.Active()
		if active == "" && len(cluster) > 0 && !slices.ContainsFunc(cluster, func(s bus.ClusterState) bool { return s.Name == successor }) {
			active, _ = diagnosis.ActiveBooster(ctx, c)
		}
		switch {
		case len(cluster) == 0 && ctx.Err() == nil:
			return nil
		case active != successor:
			since = time.Time{}
		case since.IsZero():
			since = asked
		case time.Since(since) >= staysActive:
			return nil
		}
		if !bus.Sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%s is not active after %s; see `omflow-booster status`", text.OneLine(successor), handOverTimeout)
		}
	}
}

func (a *App) shrinkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shrink",
		Short: "Go on with this Booster alone, without the other one",
		Long: "Go on with this Booster alone, without the other one. Run it on the host of the Booster that stays, with the\n" +
			"settings of its service (HA_BOOSTER_IP still set) and the service stopped; the other Booster keeps running\n" +
			"until it is told to leave. It takes everything along, and nothing is accepted meanwhile. Then unset\n" +
			"HA_BOOSTER_IP and start the service.\n\n" +
			"The other Booster will not start again with the data directory that it has. If it does not answer and never\n" +
			"will, add --gone.",
		Example: "  systemctl stop omflow-booster && omflow-booster cluster shrink",
		Args:    noArgs(),
	}
	gone := cmd.Flags().Bool("gone", false, "the other Booster is switched off, and will not be started again with the data directory "+
		"that it has")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.shrink(cmd.Context(), broker.ShrinkOptions{Gone: *gone}, out)
	}
	return cmd
}

func (a *App) recoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Last resort: go on with this Booster after the others are lost for good",
		Long: "Last resort: go on with this Booster after the other one and the witness are lost for good. Run it on the host\n" +
			"of the Booster that is left, with the settings of its service and the service stopped. While one of the others\n" +
			"may come back, start that one instead: two of three go on by themselves.\n\n" +
			"What only the lost ones had is lost: steps come back from the database, but dead steps and patches that were\n" +
			"written in the last moments may be missing. The lost ones must never be started again with what they have, or\n" +
			"there will be two queues: switch them off or empty their data directories first. It asks you to confirm that\n" +
			"by the name of this Booster.",
		Example: "  systemctl stop omflow-booster && omflow-booster cluster recover",
		Args:    noArgs(),
	}
	fenced := cmd.Flags().String("others-are-fenced", "", "name of this Booster, instead of being asked for it")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.shrink(cmd.Context(), broker.ShrinkOptions{
			Lost:    true,
			Confirm: func(name string) error { return a.confirmFenced(name, *fenced) },
		}, out)
	}
	return cmd
}

// confirmFenced makes sure that the operator knows which members must not come back.
func (a *App) confirmFenced(name, given string) error {
	if given == "" {
		if !isTerminal(a.Stdin) || !isTerminal(a.Stderr) {
			return usageError{fmt.Errorf("recover on a terminal, or give --others-are-fenced=%s when the other Booster and the witness can "+
				"never come back with what they have", name)}
		}
		fmt.Fprintf(a.Stderr, "This makes %s go on alone, by what it has. The other Booster and the witness must be switched off for good,\n"+
			"or their data directories emptied: if they come back, there will be two queues.\n"+
			"Type the name of this Booster (%s) to confirm that they cannot: ", text.OneLine(name), text.OneLine(name))
		line, err := bufio.NewReader(a.Stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer: %w", err)
		}
		given = strings.TrimSpace(line)
	}
	if given != name {
		return usageError{fmt.Errorf("%q is not the name of this Booster, which is %s; nothing was changed", text.OneLine(given), name)}
	}
	return nil
}

// shrink takes everything that this host's Booster holds along, so that its next start is that of a single one.
func (a *App) shrink(ctx context.Context, o broker.ShrinkOptions, out *output) error {
	var cfg broker.Config
	if err := config.Load(&cfg); err != nil {
		return err
	}
	if cfg.HAIP == "" {
		return &config.Error{
			Var: "HA_BOOSTER_IP", Problem: "not set",
			Fix: "run this with the settings that the service of the Booster has; unset it afterwards",
		}
	}
	if os.Getenv("LOG_LEVEL") == "" {
		cfg.Level = "error" // the server that is started for this has much to say; this is a command, and says itself what it does
	}
	progress, end := a.streamProgress("taken along")
	o.Progress = progress
	report, err := broker.Shrink(ctx, cfg, logging.New(cfg.Config, a.Stderr, bus.ServiceBooster), o)
	end()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s takes along %s in %s; left behind: %s\nUnset HA_BOOSTER_IP in its settings and start it. The old store is "+
		"kept until everything is back.\n",
		text.OneLine(report.Booster), text.Counted(report.Messages, "message"), text.Counted(uint64(report.Streams),
			"stream"), text.OneLine(strings.Join(report.Left, ", ")))
	return out.document(report)
}
