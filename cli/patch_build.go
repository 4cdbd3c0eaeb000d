package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) patchBuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build DIR FILE",
		Short: "Write a signed patch of every file below DIR to FILE, and publish nothing",
		Long: "Write a patch of every file below DIR to FILE, signed with the private key in BOOSTER_JOIN_FILE, and publish nothing: FILE\n" +
			"can be looked at, kept, and published later from any host. " + contentHelp,
		Example: "  omflow-booster patch build ./fix fix.tar.zst --note 'correct the leave form'\n  omflow-booster patch publish fix.tar.zst",
		Args:    args(2, 2, "a directory and a FILE"),
	}
	o := buildFlags(cmd)
	force := cmd.Flags().Bool("force", false, "overwrite FILE if it is there")
	out := a.output(cmd)
	cmd.RunE = func(_ *cobra.Command, given []string) error {
		keys, err := loadJoinFile()
		if err != nil {
			return err
		}
		if err := checkOutputFile(given[1], *force); err != nil {
			return err
		}
		m, err := buildArtifact(given[1], given[0], *o, keys)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s written: %s, %s, %s\n", given[1], m.ID, text.Counted(len(m.Files), "file"), text.Size(m.Bytes()))
		return out.document(m)
	}
	return cmd
}

// buildArtifact builds a patch of the files in dir into file. What agents would refuse is wrong usage.
func buildArtifact(file, dir string, o patch.Options, keys *join.File) (m patch.Manifest, err error) {
	if o.Signer, err = keys.Signer(); err != nil {
		return m, wrongJoinFile(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, usageError{fmt.Errorf("%w; give the directory that holds the files", err)}
	}
	defer func() { _ = root.Close() }()
	m, err = patch.Create(file, root.FS(), o)
	switch {
	case errors.Is(err, patch.ErrInvalid):
		return m, usageError{err}
	case err != nil:
		return m, fmt.Errorf("build patch: %w", err)
	}
	return m, nil
}

// What `patch inspect` says of a signature.
const (
	signatureGood      = "good"
	signatureRefused   = "refused"
	signatureUnchecked = "unchecked" // there is no join file here
)

// signed is who answers for a patch.
type signed struct {
	Key    string `json:"key"`
	Name   string `json:"name"` // as the join file has it
	State  string `json:"state"`
	Reason string `json:"reason"` // why it was refused or not checked
}

// readArtifact reads a whole artifact. The signature is judged, and a bad one is no error.
func readArtifact(name string, keys *join.File) (m patch.Manifest, by signed, err error) {
	in, err := os.Open(name)
	if err != nil {
		return m, by, usageError{err}
	}
	defer func() { _ = in.Close() }()
	m, err = patch.Verify(in, patch.DefaultLimit, func(keyID string, manifest, signature []byte) error {
		by = signed{Key: keyID, State: signatureUnchecked, Reason: join.Variable + " is not set"}
		if keys == nil {
			return nil
		}
		key, _ := keys.Key(keyID)
		by.Name, by.State, by.Reason = key.Name, signatureGood, ""
		if err := keys.Verify(keyID, manifest, signature); err != nil {
			by.State, by.Reason = signatureRefused, err.Error()
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return m, by, err
}

func (a *App) patchInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a patch holds, who signed it, and whether this host trusts that",
		Long: "Show what a patch of `omflow-booster patch build` holds, who signed it, and whether the join file of this host\n" +
			"trusts that. No Booster is asked, so a key that was revoked since is not noticed; `omflow-booster patch keys`\n" +
			"shows those.",
		Example: "  omflow-booster patch inspect fix.tar.zst\n  omflow-booster patch inspect fix.tar.zst --json",
		Args:    args(1, 1, "one FILE"),
	}
	out := a.output(cmd)
	cmd.RunE = func(_ *cobra.Command, given []string) error {
		var keys *join.File
		if os.Getenv(join.Variable) != "" {
			var err error
			if keys, err = loadJoinFile(); err != nil {
				return err
			}
		}
		m, by, err := readArtifact(given[0], keys)
		if err != nil {
			return err
		}
		return firstError(printArtifact(out, m, by), out.document(struct {
			patch.Manifest
			Signature signed `json:"signature"`
		}{m, by}))
	}
	return cmd
}

func printArtifact(out io.Writer, m patch.Manifest, by signed) error {
	t := newTable(out)
	t.row("patch", m.ID)
	t.row("from", m.From)
	t.row("to", m.To)
	t.row("author", m.Author)
	t.row("note", m.Note)
	t.row("hooks", hooksOf(m.Hooks))
	t.row("created", m.Created.Local().Format(time.DateTime))
	t.row("signed by", by.Key+" "+by.Name)
	state := by.State
	if by.Reason != "" {
		state += ": " + by.Reason
	}
	t.row("signature", state)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t = newTable(out, "FILE", "SIZE", "MODE", "SHA256")
	for _, f := range m.Files {
		t.row(f.Path, text.Size(f.Size), fmt.Sprintf("%04o", uint32(f.Mode)), f.SHA256)
	}
	for _, name := range m.Deletions {
		t.row(name, "deleted", "", "")
	}
	return t.flush()
}

// hooksOf says what is done on a server besides the files, in the order in which it is done.
func hooksOf(h patch.Hooks) string {
	var list []string
	if h.Pip != "" {
		list = append(list, "pip "+h.Pip)
	}
	if h.Migrate {
		list = append(list, "migrate")
	}
	return strings.Join(append(list, "restart "+h.Restarted()), ", ")
}

func (a *App) patchVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Tell by the exit code whether a patch is sound and signed by a key that this host trusts",
		Long: "Read a patch to its last byte as an agent does: exit code 0 if it is sound and signed with a key of\n" +
			"BOOSTER_JOIN_FILE, 1 and the reason if not. No Booster is asked, so a key that was revoked since is not\n" +
			"noticed; agents notice it.",
		Example: "  omflow-booster patch verify fix.tar.zst && omflow-booster patch publish fix.tar.zst",
		Args:    args(1, 1, "one FILE"),
	}
	out := a.output(cmd)
	cmd.RunE = func(_ *cobra.Command, given []string) error {
		keys, err := loadJoinFile()
		if err != nil {
			return err
		}
		m, by, err := readArtifact(given[0], keys)
		var usage usageError
		if errors.As(err, &usage) {
			return err
		}
		if err == nil && by.State != signatureGood {
			err = fmt.Errorf("%s: %s", given[0], by.Reason)
		}
		if out.json { // a signature that is not good is an answer, too
			report := map[string]any{"file": given[0], "id": m.ID, "key": by.Key, "good": err == nil, "reason": ""}
			if err != nil {
				report["reason"] = err.Error()
			}
			return firstError(out.document(report), err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: good, %s signed by %s %s\n", given[0], m.ID, by.Key, text.OneLine(by.Name))
		return nil
	}
	return cmd
}
