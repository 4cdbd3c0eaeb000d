package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) patchCommand() *cobra.Command {
	return group("patch", "Bring changed files to all OMFLOW Servers",
		"A patch is a set of files that every agent puts into the home of its OMFLOW Server, one server after the other and in\n"+
			"the order in which the patches were published. A server that is away catches up when it is back. Agents take a patch only\n"+
			"if it is signed with a key that their join file names (BOOSTER_JOIN_FILE, see `omflow-booster join`).",
		"  omflow-booster patch publish ./fix --note 'correct the leave form'\n  omflow-booster patch ls",
		a.patchPublishCommand(), a.patchApplyCommand(), a.patchListCommand(), a.patchShowCommand(), a.patchApproveCommand(),
		a.patchPauseCommand(), a.patchResumeCommand(), a.patchAbortCommand(), a.patchRevertCommand(), a.patchResolveCommand(),
		a.patchBuildCommand(), a.patchInspectCommand(), a.patchVerifyCommand(), a.patchKeysCommand(), a.patchRevokeCommand())
}

// contentHelp says what a patch may hold.
const contentHelp = "What belongs to one server alone is refused: omflow/settings.py, logs/, uploads/, db.omflow. What Python writes " +
	"itself\n" +
	"(__pycache__, *.pyc) is left out. What looks like a secret is refused without --with-secrets."

// buildFlags are what people say about a patch that is built.
func buildFlags(cmd *cobra.Command) *patch.Options {
	o := &patch.Options{}
	cmd.Flags().StringVar(&o.From, "from", "", "version that the patch is for; servers with another one refuse it (default: any)")
	cmd.Flags().StringVar(&o.To, "to", "", "version that it leads to (default: the one in its version file, if it has one)")
	cmd.Flags().StringVar(&o.Note, "note", "", "what it is for")
	cmd.Flags().StringVar(&o.Author, "author", userName(), "who made it")
	cmd.Flags().StringArrayVar(&o.Deletions, "delete", nil, "file to delete on every server, relative to OMFLOW_HOME; may be repeated")
	cmd.Flags().BoolVar(&o.Secrets, "with-secrets", false,
		"carry also what looks like a secret: private keys, copies of the settings, dumps of the database")
	cmd.Flags().StringVar(&o.Hooks.Pip, "pip", "", "file of requirements, relative to OMFLOW_HOME, that pip installs on every server")
	cmd.Flags().BoolVar(&o.Hooks.Migrate, "migrate", false, "bring the database up to date, on the first server")
	cmd.Flags().StringVar(&o.Hooks.Restart, "restart", patch.RestartServer, "what is restarted on every server: "+
		strings.Join(patch.Restarts, ", ")+" (runners: the worker alone)")
	return o
}

// refuseBuildFlags refuses them for a patch that is built already: it is signed as it is.
func refuseBuildFlags(cmd *cobra.Command) error {
	for _, name := range []string{"from", "to", "note", "author", "delete", "with-secrets", "pip", "migrate", "restart"} {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is for a directory; a FILE of `patch build` is published as it was signed", name)}
		}
	}
	return nil
}

func (a *App) patchPublishCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish DIR|FILE",
		Short: "Put every file below DIR at the same place in the home of every OMFLOW Server",
		Long: "Put every file below DIR at the same place, relative to OMFLOW_HOME, on every OMFLOW Server; or publish a FILE that\n" +
			"`omflow-booster patch build` has made. " + contentHelp + "\n" +
			"The agent of each server stops it while it replaces the files, unless --restart says otherwise; the other servers\n" +
			"go on working. pip and migrate run with OMFLOW_PYTHON before the server starts again. If one of them fails, the\n" +
			"agent restores the server's old files. It does not undo what pip installed or what changed in the database.\n" +
			"With --exact DIR is a whole OMFLOW Server. The command shows how it differs from the files that the servers should\n" +
			"have, and publishes the difference when you say yes: new and changed files, and deletions of those that DIR does\n" +
			"not have. What belongs to one server alone stays. With --json and without --yes it prints the difference and\n" +
			"publishes nothing.",
		Example: "  omflow-booster patch publish ./fix --note 'correct the leave form'\n" +
			"  omflow-booster patch publish ./omflow-1.1.5 --from 1.1.4.0 --delete omflow/old.py --pip requirements.txt --migrate\n" +
			"  omflow-booster patch publish --exact ./omflow-1.1.5 --migrate\n" +
			"  omflow-booster patch publish ./pictures --restart none\n" +
			"  omflow-booster patch publish fix.tar.zst",
		Args: args(1, 1, "one directory, or one FILE of `patch build`"),
	}
	o := buildFlags(cmd)
	policy := policyFlags(cmd)
	exact := cmd.Flags().Bool("exact", false, "make every server have what is in DIR, and nothing else")
	_ = cmd.Flags().Bool("yes", false, "with --exact: do not ask")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		artifact := given[0]
		careful, err := policy()
		if err != nil {
			return err
		}
		info, err := os.Stat(artifact)
		if err != nil {
			return usageError{fmt.Errorf("%w; give the directory that holds the files", err)}
		}
		if err := refuseBuildFlags(cmd); err != nil && !info.IsDir() {
			return err
		}
		keys, err := loadJoinFile()
		if err != nil {
			return err
		}
		publish := publishing{keys, careful, out}
		switch {
		case *exact && !info.IsDir():
			return usageError{errors.New("--exact takes the directory of a whole OMFLOW Server; a FILE of `patch build` is published as it was " +
				"signed")}
		case *exact:
			return a.publishExact(cmd, given[0], *o, publish)
		}
		if info.IsDir() {
			temp, err := os.MkdirTemp("", "omflow-booster-patch-*")
			if err != nil {
				return fmt.Errorf("build patch: %w", err)
			}
			defer func() { _ = os.RemoveAll(temp) }()
			artifact = filepath.Join(temp, "patch.tar.zst")
			if _, err := buildArtifact(artifact, given[0], *o, keys); err != nil {
				return err
			}
		}
		return a.publishPatch(cmd.Context(), artifact, publish)
	}
	return cmd
}

// publishing is what a command line says of a publication.
type publishing struct {
	keys    *join.File
	careful *rollout.Policy // nil: that of the Booster
	out     *output
}

func (a *App) publishPatch(ctx context.Context, artifact string, p publishing) error {
	return a.withBus(func(c *bus.Client) error {
		if err := checkFleet(ctx, c, artifact, p.keys, p.careful); err != nil {
			return err
		}
		published, err := a.announcePatch(ctx, c, artifact, p.keys, func(id string) error {
			if p.careful == nil {
				return nil
			}
			return rollout.Create(ctx, c.JS, id, *p.careful)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "published %s: %s, %s\n", published.ID, text.Counted(published.Files, "file"), text.Size(published.Bytes))
		fmt.Fprintf(p.out, "`omflow-booster patch show %s --follow` shows how it goes from server to server.\n", published.ID)
		return p.out.document(diagnosis.Patch{Announcement: published, Seq: published.Seq, Nodes: []diagnosis.NodePatch{}})
	})
}

// announcePatch stores an artifact that the keys of this host let through, and tells every agent of it. In between, plan says
// how its rollout goes.
func (a *App) announcePatch(ctx context.Context, c *bus.Client, artifact string, keys *join.File,
	plan func(id string) error,
) (patch.Announcement, error) {
	revoked, err := patch.Revoked(ctx, c.JS)
	if err != nil {
		return patch.Announcement{}, err
	}
	stored, err := patch.Store(ctx, c.JS, artifact, patch.Trust(keys.Verify).Except(revoked), a.uploadProgress())
	if err == nil {
		err = plan(stored.ID)
	}
	if err != nil {
		return stored, err
	}
	return patch.Announce(ctx, c.JS, stored)
}

// uploadProgress tells a person on a terminal, twice a second, how far a long upload is.
func (a *App) uploadProgress() func(done, total int64) {
	if !isTerminal(a.Stderr) {
		return nil
	}
	next, shown := time.Now().Add(time.Second), false
	return func(done, total int64) {
		switch {
		case done < total && time.Now().After(next):
			next, shown = time.Now().Add(500*time.Millisecond), true
			fmt.Fprintf(a.Stderr, "\r%s of %s stored \x1b[K", text.Size(done), text.Size(total))
		case done >= total && shown:
			shown = false
			fmt.Fprint(a.Stderr, "\r\x1b[K")
		}
	}
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
