package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// States of a key.
const (
	keyTrusted = "trusted"
	keyRevoked = "revoked"
)

// listedKey is a key as `patch keys --json` prints it.
type listedKey struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Created *time.Time        `json:"created"` // null for a key that the join file does not have
	State   string            `json:"state"`
	Signs   bool              `json:"signs"`   // this host has its private half
	Revoked *patch.Revocation `json:"revoked"` // null while it is trusted
}

func (a *App) patchKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List the keys that may sign patches, and those that were revoked",
		Long: "List the keys in the join file of this host (BOOSTER_JOIN_FILE), which may sign patches, and those that were\n" +
			"revoked on the bus. `signs` is the key whose private half is here.",
		Example: "  omflow-booster patch keys\n  omflow-booster patch keys --json",
		Args:    noArgs(),
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		keys, err := loadJoinFile()
		if err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error {
			revoked, err := patch.Revoked(cmd.Context(), c.JS)
			if err != nil {
				return err
			}
			list := listKeys(keys, revoked)
			return firstError(printKeys(out, list), out.document(map[string]any{"keys": list}))
		})
	}
	return cmd
}

// listKeys joins the keys of a file with those that were revoked; revoked ones that the file does not have come last.
func listKeys(keys *join.File, revoked patch.Revocations) []listedKey {
	own := ""
	if signer, err := keys.Signer(); err == nil {
		own = signer.KeyID()
	}
	list := []listedKey{}
	for _, k := range keys.Keys() {
		entry := listedKey{ID: k.ID, Name: k.Name, Created: &k.Created, State: keyTrusted, Signs: k.ID == own}
		if r, ok := revoked[k.ID]; ok {
			entry.State, entry.Revoked = keyRevoked, &r
		}
		list = append(list, entry)
	}
	known := len(list)
	for id, r := range revoked {
		if _, ok := keys.Key(id); !ok {
			list = append(list, listedKey{ID: id, State: keyRevoked, Revoked: &r})
		}
	}
	strangers := list[known:]
	sort.Slice(strangers, func(i, j int) bool { return strangers[i].ID < strangers[j].ID })
	return list
}

func printKeys(out io.Writer, list []listedKey) error {
	t := newTable(out, "KEY", "NAME", "CREATED", "STATE")
	for _, k := range list {
		state, created := k.State, ""
		if k.Signs {
			state += ", signs here"
		}
		if k.Created != nil {
			created = k.Created.Format(time.DateOnly)
		}
		if k.Revoked != nil {
			state = fmt.Sprintf("revoked %s by %s: %s", k.Revoked.At.Format(time.DateOnly), k.Revoked.By, k.Revoked.Reason)
		}
		t.row(k.ID, k.Name, created, state)
	}
	return t.flush()
}

func (a *App) patchRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke KEYID",
		Short: "Stop every agent, for good, from applying what a key has signed",
		Long: "Stop every agent from applying what a key has signed, whenever that was. Agents remember it on their own disks\n" +
			"and bring it back to a Booster that has lost its data; no command takes it back. Patches that are applied\n" +
			"stay.",
		Example: "  omflow-booster patch keys\n  omflow-booster patch revoke 3f9c01ab52d7e846 --reason 'laptop stolen'",
		Args:    args(1, 1, "one KEYID, as `patch keys` lists it"),
	}
	reason := cmd.Flags().String("reason", "", "why, for the people who see it refused")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		keys, err := loadJoinFile()
		if err != nil {
			return err
		}
		if _, known := keys.Key(given[0]); !known { // else a slip of the pen would go unnoticed
			return usageError{fmt.Errorf("%s has no key %q; `omflow-booster join show` lists those that it has", os.Getenv(join.Variable), given[0])}
		}
		r := patch.Revocation{Key: given[0], By: userAtHost(), Reason: *reason, At: time.Now().UTC().Truncate(time.Second)}
		return a.withBus(func(c *bus.Client) error { return a.revokeKey(cmd.Context(), c, keys, r, out) })
	}
	return cmd
}

func (a *App) revokeKey(ctx context.Context, c *bus.Client, keys *join.File, r patch.Revocation, out *output) error {
	if err := patch.Revoke(ctx, c.JS, r); err != nil {
		return err
	}
	revoked, err := patch.Revoked(ctx, c.JS)
	if err != nil {
		return err
	}
	left := 0
	for _, k := range listKeys(keys, revoked) {
		if k.State == keyTrusted {
			left++
		}
	}
	fmt.Fprintf(out, "key %s is revoked: no agent applies any more what it has signed; %s left\n", r.Key, text.Counted(left, "key"))
	return out.document(revoked[r.Key])
}
