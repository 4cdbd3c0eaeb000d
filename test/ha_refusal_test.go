//go:build linux

package test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// The first of two Boosters that is ever started has nobody to agree with. It waits, says for whom, and goes on by itself.
func TestOneBoosterOfTwoWaitsForTheOther(t *testing.T) {
	t.Parallel()
	own, other := pairEnv(t)
	first := launchOfPair(t, own, nil)
	testkit.Await(t, startTimeout, "the Booster to say what it waits for", func(context.Context) error {
		if !first.running() {
			t.Fatalf("it ended with code %d", first.exitCode(0))
		}
		if !strings.Contains(first.output(), "waiting for the other Booster") ||
			!strings.Contains(first.output(), other["BOOSTER_CLUSTER_PORT"]) {
			return errors.New("it has not said so")
		}
		return nil
	})
	first.stop() // also now
	first.again()
	second := launchOfPair(t, other, nil)
	first.waitReady()
	second.waitReady()
	second.stop()
	first.stop()
}

// A store of two Boosters holds what one alone would throw away, and a copy of a Booster would take its votes.
func TestStoresOfTwoBoostersAreGuarded(t *testing.T) {
	t.Parallel()
	// given the stores of two Boosters with something in them
	p := startPair(t, nil)
	stop := p.write()
	stop()
	first, second := p.boosters[0], p.boosters[1]
	store := first.vars["BOOSTER_DATA_DIR"]

	t.Run("copy of the other Booster", func(t *testing.T) {
		second.kill()
		copied := filepath.Join(dir(t), "copied")
		if err := os.CopyFS(copied, os.DirFS(store)); err != nil {
			t.Fatal(err)
		}
		refusal{
			args: "broker", vars: merge(second.vars, env{"BOOSTER_DATA_DIR": copied, "BOOSTER_NAME": ""}), code: 2,
			says: []string{"BOOSTER_DATA_DIR", "has the same name", "this machine is a copy of it", "empty the data directory of the copy"},
		}.check(t)
	})
	t.Run("without HA_BOOSTER_IP", func(t *testing.T) {
		first.stop()
		before := fingerprint(t, store)
		refusal{
			args: "broker", vars: env{"BOOSTER_DATA_DIR": store, "BOOSTER_PORT": first.vars["BOOSTER_PORT"]}, code: 2,
			says: []string{"BOOSTER_DATA_DIR", store, "left untouched", `mode "cluster"`, "HA_BOOSTER_IP is not set"},
		}.check(t)
		if !maps.Equal(before, fingerprint(t, store)) {
			t.Error("the store has changed")
		}
	})
	// and both go on where they were
	first.again()
	second.again()
	p.await("both to go on", func(ctx context.Context) error {
		_, _, err := p.rolesSince(ctx, time.Time{})
		return err
	})
	accepted, err := p.probe.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	p.checkHolds(accepted)
}

// fingerprint is the content of every file below a directory, but for the lock file: that names the process which looked last.
func fingerprint(t testing.TB, dir string) map[string][sha256.Size]byte {
	t.Helper()
	sums := map[string][sha256.Size]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "booster.lock" {
			return err
		}
		data, err := os.ReadFile(path)
		sums[path] = sha256.Sum256(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sums) < 2 {
		t.Fatalf("%d files in %s: nothing to compare", len(sums), dir)
	}
	return sums
}
