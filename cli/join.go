package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/join"
)

func (a *App) joinCommand() *cobra.Command {
	return group("join", "Make the join file, which says whose patches a server takes",
		"A join file carries what hosts need to trust each other: the keys that may sign patches and, on hosts that publish, the private\n"+
			"half of one of them. BOOSTER_JOIN_FILE names it. Make one on the host where patches are published, and give every OMFLOW\n"+
			"Server its public part.",
		"  omflow-booster join new --out /etc/omflow-booster/join.json              # where patches are published\n"+
			"  export BOOSTER_JOIN_FILE=/etc/omflow-booster/join.json\n"+
			"  omflow-booster join public --out join-public.json                        # for every other host",
		a.joinNewCommand(), a.joinShowCommand(), a.joinPublicCommand(), a.joinAddKeyCommand())
}

// loadJoinFile reads the join file of this host; every error is a wrong setting.
func loadJoinFile() (*join.File, error) { return join.Load(os.Getenv(join.Variable)) }

// wrongJoinFile is a join file that does not fit what is to be done.
func wrongJoinFile(err error) error {
	if errors.Is(err, join.ErrNoPrivateKey) {
		return &config.Error{
			Var: join.Variable, Problem: os.Getenv(join.Variable) + ": " + err.Error(),
			Fix: "do this on a host that publishes, or make a key here: `omflow-booster join new`",
		}
	}
	return err
}

// outFlag is where a new join file goes.
func outFlag(cmd *cobra.Command, otherwise string) *string {
	return cmd.Flags().String("out", otherwise, "the file to write; it must not be there yet")
}

func createJoinFile(f *join.File, out string) error {
	err := f.Create(out)
	switch {
	case errors.Is(err, fs.ErrExist):
		return usageError{fmt.Errorf("%s exists and was left alone: give another --out", out)}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return usageError{err}
	}
	return err
}

func (a *App) joinNewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a join file with a new key",
		Long: "Make a join file with a new key that may sign patches, private half included: only its owner can read it. A\n" +
			"file that is there already is never overwritten.",
		Example: "  omflow-booster join new --name 'build host' --out /etc/omflow-booster/join.json",
		Args:    noArgs(),
	}
	name := cmd.Flags().String("name", userAtHost(), "who or what signs with it, for people")
	file := outFlag(cmd, "join.json")
	out := a.output(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		f, err := join.New(*name, time.Now())
		if err != nil {
			return usageError{err}
		}
		if err := createJoinFile(f, *file); err != nil {
			return err
		}
		return showJoinFile(out, *file, f)
	}
	return cmd
}

func (a *App) joinShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show [FILE]",
		Short:   "Show the public part of a join file",
		Long:    "Show the public part of a join file: FILE, or else BOOSTER_JOIN_FILE.",
		Example: "  omflow-booster join show\n  omflow-booster join show join-public.json --json",
		Args:    args(0, 1, "one FILE at most"),
	}
	out := a.output(cmd)
	cmd.RunE = func(_ *cobra.Command, given []string) error {
		path, read := os.Getenv(join.Variable), join.Load
		if len(given) > 0 {
			path, read = given[0], readJoinFile
		}
		f, err := read(path)
		if err != nil {
			return err
		}
		return showJoinFile(out, path, f)
	}
	return cmd
}

// readJoinFile reads a file that was named on the command line.
func readJoinFile(path string) (*join.File, error) {
	f, err := join.Read(path)
	if err != nil {
		return nil, usageError{err}
	}
	return f, nil
}

func (a *App) joinPublicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "public",
		Short:   "Copy BOOSTER_JOIN_FILE without what is private, for hosts that do not publish",
		Long:    "Copy BOOSTER_JOIN_FILE without what is private, for hosts that take patches and do not publish any.",
		Example: "  omflow-booster join public --out join-public.json && scp join-public.json server-2:/etc/omflow-booster/join.json",
		Args:    noArgs(),
	}
	file := outFlag(cmd, "join-public.json")
	out := a.output(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		f, err := loadJoinFile()
		if err != nil {
			return err
		}
		if err := createJoinFile(f.Public(), *file); err != nil {
			return err
		}
		return showJoinFile(out, *file, f.Public())
	}
	return cmd
}

func (a *App) joinAddKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add-key FILE",
		Short: "Trust the keys of another join file, too",
		Long: "Add the public keys of FILE, a join file of somebody else who signs, to BOOSTER_JOIN_FILE. Agents see it with\n" +
			"the next patch, without a restart.",
		Example: "  omflow-booster join add-key bob-public.json",
		Args:    args(1, 1, "one FILE"),
	}
	out := a.output(cmd)
	cmd.RunE = func(_ *cobra.Command, given []string) error {
		path := os.Getenv(join.Variable)
		f, err := loadJoinFile()
		if err != nil {
			return err
		}
		other, err := readJoinFile(given[0])
		if err != nil {
			return err
		}
		added, err := f.Add(other)
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", given[0], err)}
		}
		if added > 0 {
			if err := replaceJoinFile(f, path); err != nil {
				return err
			}
		}
		return showJoinFile(out, path, f)
	}
	return cmd
}

// replaceJoinFile keeps the owner: an agent may run as another user.
func replaceJoinFile(f *join.File, path string) error {
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := f.Replace(path); err != nil {
		return err
	}
	return atomicfile.KeepOwner(path, before)
}

// shownJoinFile is a join file as --json prints it.
type shownJoinFile struct {
	File string     `json:"file"`
	Keys []join.Key `json:"patch_keys"`
	Own  *string    `json:"signs_with"` // null in a file for hosts that verify
}

func showJoinFile(out *output, path string, f *join.File) error {
	shown := shownJoinFile{File: path, Keys: f.Keys()}
	if signer, err := f.Signer(); err == nil {
		id := signer.KeyID()
		shown.Own = &id
	}
	fmt.Fprintln(out, path)
	t := newTable(out, "KEY", "NAME", "CREATED", "PRIVATE HALF")
	for _, k := range shown.Keys {
		here := "elsewhere"
		if shown.Own != nil && *shown.Own == k.ID {
			here = "in this file"
		}
		t.row(k.ID, k.Name, k.Created.Format(time.DateOnly), here)
	}
	return firstError(t.flush(), out.document(shown))
}

// userAtHost names the operator who types a command.
func userAtHost() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return userName() + "@" + host
}
