package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const differencesShown = 20 // of each kind

// fleetHomes is what the servers should have, as their agents say.
type fleetHomes struct {
	servers []string
	trees   []tree.Tree // different ones
	version string      // the newest
	ignore  []string    // AGENT_IGNORE of all
	edited  []string    // servers on which files were changed by hand
	unknown []string    // servers that watch nothing
}

// gatherHomes asks all agents that are alive.
func gatherHomes(ctx context.Context, c *bus.Client) (h fleetHomes, err error) {
	nodes, err := diagnosis.LivingNodes(ctx, c)
	if err != nil {
		return h, err
	}
	for _, n := range nodes {
		if n.Agent != nil {
			h.servers = append(h.servers, n.Name)
		}
	}
	list, err := askDrift(ctx, c, h.servers)
	if err != nil {
		return h, err
	}
	known := map[string]bool{}
	for _, d := range list {
		if d.Total > 0 {
			h.edited = append(h.edited, d.Node)
		}
		files, page, err := askFiles(ctx, c, d.Node, known[d.Baseline])
		switch {
		case err != nil:
			return h, err
		case !page.Known || d.Watch == "off":
			h.unknown = append(h.unknown, d.Node)
			continue
		}
		if h.ignore = append(h.ignore, page.Ignore...); h.version == "" || patch.Older(h.version, page.Version) {
			h.version = page.Version
		}
		if !known[page.Baseline] {
			known[page.Baseline] = true
			h.trees = append(h.trees, files)
		}
	}
	if len(h.trees) == 0 {
		return h, errors.New("no agent is alive that knows what its server should have (AGENT_WATCH); see `omflow-booster nodes drift`")
	}
	return h, nil
}

// askFiles reads which files one server should have; firstOnly asks for no more than the first page.
func askFiles(ctx context.Context, c *bus.Client, node string, firstOnly bool) (files tree.Tree, page bus.FilesPage, err error) {
	files = tree.Tree{}
	for after := ""; ; {
		page, err = askPage(ctx, c, node, after)
		if err != nil || firstOnly {
			return files, page, err
		}
		for _, f := range page.Files {
			files[f.Path] = tree.File{SHA256: f.SHA256, Size: f.Size, Mode: patch.Mode(f.Mode)}
			after = f.Path
		}
		switch {
		case page.More && len(page.Files) > 0:
			continue
		case files.Digest() != page.Baseline:
			return nil, page, fmt.Errorf("%s was patched meanwhile; try again", text.OneLine(node))
		}
		return files, page, nil
	}
}

func askPage(ctx context.Context, c *bus.Client, node, after string) (page bus.FilesPage, err error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	question, err := json.Marshal(bus.FilesQuery{After: after})
	if err != nil {
		return page, err
	}
	reply, err := c.NC.RequestWithContext(ctx, bus.FilesSubject(node), question)
	if err == nil {
		err = json.Unmarshal(reply.Data, &page)
	}
	if err != nil {
		return page, fmt.Errorf("%s was asked which files it has: %w", text.OneLine(node), err)
	}
	return page, nil
}

// homeDiff is what has to change on the servers so that they have what is in a directory.
type homeDiff struct {
	Servers []string `json:"servers"`
	Was     string   `json:"version_was"`
	Is      string   `json:"version"`
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Deleted []string `json:"deleted"`
	Stays   []string `json:"stays"`   // what of the directory no patch carries, and why
	Edited  []string `json:"edited"`  // servers on which files were changed by hand
	Unknown []string `json:"unknown"` // servers of which nobody knows what they have

	bases map[string]string
}

// differ compares. Of a file that is the same on all servers and in the directory, only whether it may be executed counts
// besides its content: other bits depend on who has unpacked the directory.
func (h fleetHomes) differ(r tree.Reading) homeDiff {
	d := homeDiff{
		Servers: h.servers, Was: h.version, Added: []string{}, Changed: []string{}, Deleted: []string{}, Stays: []string{}, Edited: h.edited,
		Unknown: h.unknown,
		bases:   map[string]string{},
	}
	for _, s := range r.Stays {
		d.Stays = append(d.Stays, s.Path+" "+s.Why)
	}
	goes := map[string]bool{}
	for _, have := range h.trees {
		for _, c := range r.Since(have) {
			if c.Kind == tree.Missing {
				goes[c.Path] = true
			}
		}
	}
	for name := range goes {
		d.Deleted = append(d.Deleted, name)
	}
	slices.Sort(d.Deleted)
	for _, name := range r.Files.Names() {
		there, base, same := h.look(name, r.Files[name])
		switch {
		case same:
			continue
		case there:
			d.Changed = append(d.Changed, name)
		default:
			d.Added = append(d.Added, name)
		}
		d.bases[name] = base
	}
	return d
}

// look tells whether a file is on any server, what all have there (File.Base), and whether all have it as it should be.
func (h fleetHomes) look(name string, want tree.File) (there bool, base string, same bool) {
	same = true
	for i, files := range h.trees {
		is, ok := files[name]
		there = there || ok
		same = same && ok && is.SHA256 == want.SHA256 && is.Mode&0o111 == want.Mode&0o111
		digest := patch.BaseNone
		if ok {
			digest = is.SHA256
		}
		if i == 0 {
			base = digest
		} else if base != digest {
			base = ""
		}
	}
	return there, base, same
}

// exactDifference compares a directory with what the servers have, and makes the options of the patch that brings them there.
func exactDifference(ctx context.Context, c *bus.Client, dir string, o *patch.Options) (d homeDiff, err error) {
	h, err := gatherHomes(ctx, c)
	if err != nil {
		return d, err
	}
	ignore, err := tree.NewIgnore(h.ignore)
	if err != nil {
		return d, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return d, usageError{err}
	}
	defer func() { _ = root.Close() }()
	found, err := tree.NewScanner(root, ignore).Scan(ctx, 0)
	if err != nil {
		return d, fmt.Errorf("read %s: %w", dir, err)
	}
	d = h.differ(found)
	d.Is = patch.HomeVersion(root.FS())
	if slices.Contains(d.Deleted, patch.VersionFile) {
		return d,
			usageError{fmt.Errorf("%s has no %s: --exact takes a directory with all files of an OMFLOW Server, and deletes everything else", dir,
				patch.VersionFile)}
	}
	o.Files, o.Deletions, o.Bases = append(slices.Clone(d.Added), d.Changed...), d.Deleted, d.bases
	if o.From == "" && patch.Older(d.Is, d.Was) { // servers pass an older version over unless somebody says that it is meant
		o.From = d.Was
	}
	return d, nil
}

func (d homeDiff) empty() bool { return len(d.Added)+len(d.Changed)+len(d.Deleted) == 0 }

// publishExact brings every server to what is in a directory, when somebody has seen what that means.
func (a *App) publishExact(cmd *cobra.Command, dir string, o patch.Options, publish publishing) error {
	yes, out := flagIsSet(cmd, "yes"), publish.out
	if cmd.Flags().Changed("delete") {
		return usageError{errors.New("--delete does not go with --exact, which deletes what DIR does not have")}
	}
	var d homeDiff
	err := a.withBus(func(c *bus.Client) (err error) {
		d, err = exactDifference(cmd.Context(), c, dir, &o)
		return err
	})
	if err != nil {
		return err
	}
	if out.json && (!yes || d.empty()) {
		return out.document(map[string]any{"difference": d, "published": nil})
	}
	printDifference(out, d)
	if d.empty() {
		return nil
	}
	if !yes {
		sure, err := confirm(a.Stdin, a.Stderr, fmt.Sprintf("Bring that to %s?", text.Counted(len(d.Servers), "server")))
		if err != nil || !sure {
			return err
		}
	}
	temp, err := os.MkdirTemp("", "omflow-booster-patch-*")
	if err != nil {
		return fmt.Errorf("build patch: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	artifact := filepath.Join(temp, "patch.tar.zst")
	if _, err := buildArtifact(artifact, dir, o, publish.keys); err != nil {
		return err
	}
	return a.publishPatch(cmd.Context(), artifact, publish)
}

func flagIsSet(cmd *cobra.Command, name string) bool {
	set, err := cmd.Flags().GetBool(name)
	return err == nil && set
}

func printDifference(out io.Writer, d homeDiff) {
	if d.empty() {
		fmt.Fprintf(out, "nothing to do: %s should have exactly this already\n", text.OneLine(strings.Join(d.Servers, ", ")))
	} else {
		fmt.Fprintf(out, "%d added, %d changed, %d deleted on %s\n", len(d.Added), len(d.Changed), len(d.Deleted),
			text.OneLine(strings.Join(d.Servers, ", ")))
	}
	for _, kind := range []struct {
		name  string
		paths []string
	}{{"added", d.Added}, {"changed", d.Changed}, {"deleted", d.Deleted}, {"not carried:", d.Stays}} {
		for _, name := range kind.paths[:min(differencesShown, len(kind.paths))] {
			fmt.Fprintf(out, "  %s %s\n", kind.name, text.OneLine(name))
		}
		if more := len(kind.paths) - differencesShown; more > 0 {
			fmt.Fprintf(out, "  %s %d more (--json lists all)\n", kind.name, more)
		}
	}
	if patch.Older(d.Is, d.Was) {
		fmt.Fprintf(out, "OLDER: this is version %s, and the servers have %s\n", text.OneLine(d.Is), text.OneLine(d.Was))
	} else if d.Is != d.Was {
		fmt.Fprintf(out, "version %s → %s\n", diagnosis.OrUnknown(text.OneLine(d.Was)), diagnosis.OrUnknown(text.OneLine(d.Is)))
	}
	if len(d.Edited) > 0 {
		fmt.Fprintf(out, "files were changed by hand on %s: where this patch has the same ones, it waits there for a word; see "+
			"`omflow-booster nodes drift`\n",
			text.OneLine(strings.Join(d.Edited, ", ")))
	}
	if len(d.Unknown) > 0 {
		fmt.Fprintf(out, "not compared: %s watches no files (AGENT_WATCH=off)\n", text.OneLine(strings.Join(d.Unknown, ", ")))
	}
}
