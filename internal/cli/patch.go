package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

func (a *App) patchCommand() *cobra.Command {
	return group("patch", "Bring changed files to all OMFLOW Servers",
		"A patch is a set of files that every agent puts into the home of its OMFLOW Server, one server after the other and in\n"+
			"the order in which the patches were published. A server that is away catches up when it is back.",
		"  omflow-booster patch publish ./fix --note 'correct the leave form'\n  omflow-booster patch ls",
		a.patchPublishCommand(), a.patchListCommand(), a.patchShowCommand(), a.patchPauseCommand(), a.patchResumeCommand(), a.patchAbortCommand())
}

func (a *App) patchPublishCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish DIR",
		Short: "Put every file below DIR at the same place in the home of every OMFLOW Server",
		Long: "Put every file below DIR at the same place, relative to OMFLOW_HOME, on every OMFLOW Server. What belongs to one\n" +
			"server alone is refused: omflow/settings.py, logs/, uploads/, db.omflow. What Python writes itself (__pycache__, *.pyc)\n" +
			"is left out. Every server is stopped while its files are replaced; the others go on working.",
		Example: "  omflow-booster patch publish ./fix --note 'correct the leave form'\n" +
			"  omflow-booster patch publish ./omflow-1.1.5 --from 1.1.4.0 --delete omflow/old.py",
		Args: args(1, 1, "one directory"),
	}
	var o patch.Options
	cmd.Flags().StringVar(&o.From, "from", "", "version that the patch is for; servers with another one refuse it (default: any)")
	cmd.Flags().StringVar(&o.To, "to", "", "version that it leads to (default: the one in its version file, if it has one)")
	cmd.Flags().StringVar(&o.Note, "note", "", "what it is for")
	cmd.Flags().StringVar(&o.Author, "author", userName(), "who made it")
	cmd.Flags().StringArrayVar(&o.Deletions, "delete", nil, "file to delete on every server, relative to OMFLOW_HOME; may be repeated")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.publishPatch(cmd.Context(), given[0], o, *asJSON)
	}
	return cmd
}

func (a *App) publishPatch(ctx context.Context, dir string, o patch.Options, asJSON bool) error {
	artifact, err := buildArtifact(dir, o)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(artifact) }()
	return a.withBus(func(c *bus.Client) error {
		published, err := patch.Publish(ctx, c.JS, artifact, patch.DefaultLimit, a.uploadProgress())
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(a.Stdout, listedPatch{Announcement: published, Seq: published.Seq, Nodes: []nodePatch{}})
		}
		fmt.Fprintf(a.Stdout, "published %s: %s, %s\n", published.ID, counted(published.Files, "file"), size(published.Bytes))
		fmt.Fprintln(a.Stdout, "`omflow-booster patch ls` shows where it is applied.")
		return nil
	})
}

// buildArtifact builds the patch into a temporary file. What agents would refuse is wrong usage.
func buildArtifact(dir string, o patch.Options) (name string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", usageError{fmt.Errorf("%w; give the directory that holds the files", err)}
	}
	defer func() { _ = root.Close() }()
	out, err := os.CreateTemp("", "omflow-booster-patch-*.tar.zst")
	if err != nil {
		return "", fmt.Errorf("build patch: %w", err)
	}
	_, err = patch.Build(out, root.FS(), o)
	err = errors.Join(err, out.Close())
	if err == nil {
		return out.Name(), nil
	}
	_ = os.Remove(out.Name())
	if errors.Is(err, patch.ErrInvalid) {
		return "", usageError{err}
	}
	return "", fmt.Errorf("build patch: %w", err)
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
			fmt.Fprintf(a.Stderr, "\r%s of %s stored \x1b[K", size(done), size(total))
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
