package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// clockTolerance is how far a clock may be off before ages and times of two hosts stop making sense together.
const clockTolerance = 2 * time.Second

// needServer is the oldest NATS server that this is meant for; the Booster holds a newer one.
var needServer = [2]int{2, 12}

// Booster checks the way to the Booster and what it holds.
func Booster(ctx context.Context, dial func() (*bus.Client, error)) []Finding {
	c, err := dial()
	if err != nil {
		return onlyBooster(Failure("booster", err.Error(), ""), "needs a Booster")
	}
	defer c.Close()
	server := describeServer(c)
	cluster := bus.AskCluster(ctx, c.NC)
	var why *bus.NoMajorityError
	if errors.As(cluster.Err(), &why) {
		return onlyBooster(Failure("booster", server.Detail+": "+why.Problem(), why.Fix()), "needs a majority of the Boosters")
	}
	call, cancel := ask(ctx)
	defer cancel()
	switch _, err := c.JS.AccountInfo(call); {
	case err != nil && len(cluster) > 0:
		return onlyBooster(Failure("booster", server.Detail+", but its streams do not answer: "+ExplainSilence(ctx, c.NC, err).Error(),
			"Leadership may be moving: run this again in ten seconds."), "needs a Booster whose streams answer")
	case err != nil:
		return onlyBooster(Failure("booster", server.Detail+", but JetStream does not answer: "+err.Error(),
			"Is this a Booster? A NATS cluster of one's own needs JetStream for this account."), "needs a Booster whose streams answer")
	}
	server.Detail += ", JetStream answers"
	findings := append([]Finding{server, layoutFinding(ctx, c), roomFinding(ctx, c)}, lostFindings(ctx, c)...)
	findings = append(append(findings, clockFinding(ctx, c)), nodesFound(ctx, c)...)
	return append(findings, uploadFindings(ctx, c)...)
}

// onlyBooster is what is found where the Booster cannot be asked for the rest: what was not looked at is named.
func onlyBooster(f Finding, needs string) []Finding {
	findings := []Finding{f}
	for _, check := range []string{"streams", "patches", "clock", "agent", "uploads"} {
		findings = append(findings, Skipped(check, needs))
	}
	return findings
}

func describeServer(c *bus.Client) Finding {
	version := c.NC.ConnectedServerVersion()
	f := OK("booster", fmt.Sprintf("%s at %s, NATS server %s", c.NC.ConnectedServerName(), c.NC.ConnectedUrlRedacted(),
		version))
	var have [2]int
	if _, err := fmt.Sscanf(version, "%d.%d", &have[0], &have[1]); err == nil && slices.Compare(have[:], needServer[:]) < 0 {
		f.Verdict, f.Fix = VerdictWarn, fmt.Sprintf("update the NATS server to %d.%d or newer", needServer[0], needServer[1])
	}
	return f
}

// layoutFinding checks that every stream, consumer, bucket and store is there.
func layoutFinding(ctx context.Context, c *bus.Client) Finding {
	missing, err := missingParts(ctx, c.JS)
	switch {
	case err != nil:
		return Failure("streams", err.Error(), "run this again; if it stays, look at the log of the Booster")
	case len(missing) > 0:
		return Failure("streams", "not there: "+strings.Join(missing, ", "),
			"`omflow-booster broker` creates them when it starts; is it one that answers here?")
	}
	return OK("streams", "all streams, buckets and stores are there")
}

func missingParts(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	var missing []string
	for _, name := range bus.StreamNames() {
		stream, err := bus.OpenStream(ctx, js, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		if name != bus.StreamWork {
			continue
		}
		state, err := gatherWork(ctx, stream)
		if err != nil {
			return nil, err
		}
		if state == nil {
			missing = append(missing, "consumer "+bus.ConsumerWorkers+" of "+name)
		}
	}
	return missing, nil
}

// roomFinding tells how full the stores of patches are: without room nothing can be published or reported.
func roomFinding(ctx context.Context, c *bus.Client) Finding {
	f := OK("patches", "")
	var parts []string
	for _, name := range []string{bus.StreamPatch, bus.ObjectStream(bus.ObjectPatches), bus.BucketStream(bus.BucketRollout)} {
		stream, err := bus.OpenStream(ctx, c.JS, name)
		if err != nil {
			return Skipped(f.Check, "needs stream "+name)
		}
		s := describeStream(stream.CachedInfo())
		parts = append(parts, fmt.Sprintf("%s has %s of %s", name, text.Size(s.Bytes), text.Size(s.LimitBytes)))
		if s.Full > nearlyFull {
			f.Verdict, f.Fix = VerdictWarn, "see `omflow-booster status`"
		}
	}
	f.Detail = strings.Join(parts, ", ")
	return f
}

// clockFinding compares the clock of this host with that of the Booster, which dates its answers.
func clockFinding(ctx context.Context, c *bus.Client) Finding {
	asked := time.Now()
	stream, err := bus.OpenStream(ctx, c.JS, bus.StreamWork)
	took := time.Since(asked)
	if err != nil {
		return Skipped("clock", "needs stream "+bus.StreamWork)
	}
	off := clockOffset(asked, took, stream.CachedInfo().TimeStamp)
	if off.Abs() <= clockTolerance {
		return OK("clock", "agrees with the Booster")
	}
	direction := "ahead of"
	if off < 0 {
		direction = "behind"
	}
	return Warning("clock", fmt.Sprintf("this host is %s %s the Booster", text.Age(off.Abs()), direction),
		"let both follow the same time server (NTP)")
}

// clockOffset is how far this host is ahead of the Booster, which answered halfway, as far as anybody knows; an answer
// that took long proves little, so what may be explained by it is not counted.
func clockOffset(asked time.Time, took time.Duration, answered time.Time) time.Duration {
	off := asked.Add(took / 2).Sub(answered)
	if off.Abs() <= took/2 {
		return 0
	}
	return off
}
