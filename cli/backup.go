package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that the Booster holds to a file",
		Long: "Write everything that the Booster holds to FILE: waiting and dead steps, patches and settings, while it goes\n" +
			"on working. Heartbeats are left out. FILE is complete when it has its name; it is a tar archive compressed by\n" +
			"zstd. While it is written, its directory needs room for it and for what is in it. Only its owner can read it:\n" +
			"steps carry what people typed.",
		Example: "  omflow-booster backup /backup/booster-$(date +%F).tar.zst\n  omflow-booster backup booster.tar.zst --force --json",
		Args:    args(1, 1, "one FILE"),
	}
	force := cmd.Flags().Bool("force", false, "overwrite FILE if it is there")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if err := checkOutputFile(given[0], *force); err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error { return a.backup(cmd.Context(), c, given[0], *force, out) })
	}
	return cmd
}

// checkOutputFile finds what would make a command fail in the end that takes its time to write a file.
func checkOutputFile(file string, force bool) error {
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("%s is not a directory; make it, or give another FILE", filepath.Dir(file))}
	}
	switch info, err := os.Lstat(file); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usageError{err}
	case !info.Mode().IsRegular():
		return usageError{fmt.Errorf("%s is not a regular file", file)}
	case !force:
		return usageError{fmt.Errorf("%s exists; give another FILE, or --force to overwrite it", file)}
	}
	return nil
}

// backupReport is what was written.
type backupReport struct {
	File    string         `json:"file"`
	Size    int64          `json:"size"`
	ID      string         `json:"id"`
	Created time.Time      `json:"created"`
	Version string         `json:"version"`
	Streams []streamReport `json:"streams"`
}

// streamReport is one stream of a backup.
type streamReport struct {
	Name      string `json:"name"`
	Messages  uint64 `json:"messages"`
	Bytes     uint64 `json:"bytes"`
	FirstSeq  uint64 `json:"first_seq"`
	LastSeq   uint64 `json:"last_seq"`
	Consumers int    `json:"consumers"`
	Result    string `json:"result,omitempty"` // of a restore
}

func reportStream(s snapshot.Stream, result string) streamReport {
	return streamReport{
		Name: s.Name, Messages: s.Messages, Bytes: s.Bytes, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq, Consumers: len(s.Consumers), Result: result,
	}
}

func (a *App) backup(ctx context.Context, c *bus.Client, file string, force bool, out *output) error {
	began := time.Now()
	// Beside FILE, because that disk is meant to have room; for this user alone.
	dir, err := os.MkdirTemp(filepath.Dir(file), ".omflow-booster-backup-*")
	if err != nil {
		return fmt.Errorf("make backup: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	progress, end := a.streamProgress("taken")
	m, err := snapshot.Take(ctx, c.JS, dir, snapshot.TakeOptions{Progress: progress})
	end()
	if err != nil {
		return fmt.Errorf("make backup: %w; nothing was written", err)
	}
	bytes, err := snapshot.Pack(ctx, dir, file, force)
	if err != nil {
		return fmt.Errorf("make backup: %w", err)
	}
	report := backupReport{File: file, Size: bytes, ID: m.ID, Created: m.Created, Version: m.Version, Streams: []streamReport{}}
	for _, s := range m.Streams {
		report.Streams = append(report.Streams, reportStream(s, ""))
	}
	if err := printStreams(out, report.Streams); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s written: %s in %s\n", file, text.Size(bytes), text.Age(time.Since(began)))
	return out.document(report)
}

// printStreams shows the streams of a backup, with what became of them if that is known.
func printStreams(out io.Writer, streams []streamReport) error {
	columns := []string{"STREAM", "MESSAGES", "BYTES"}
	withResult := len(streams) > 0 && streams[0].Result != ""
	if withResult {
		columns = append(columns, "RESULT")
	}
	t := newTable(out, columns...)
	for _, s := range streams {
		cells := []any{s.Name, text.Count(s.Messages), text.Size(s.Bytes)}
		if withResult {
			cells = append(cells, s.Result)
		}
		t.row(cells...)
	}
	return t.flush()
}

// streamProgress tells a person on a terminal, twice a second, how far a long transfer is. end wipes the line.
func (a *App) streamProgress(verb string) (progress func(snapshot.Progress), end func()) {
	if !isTerminal(a.Stderr) {
		return nil, func() {}
	}
	next, shown := time.Now().Add(time.Second), false
	progress = func(p snapshot.Progress) {
		if time.Now().Before(next) {
			return
		}
		next, shown = time.Now().Add(500*time.Millisecond), true
		of := ""
		if p.Total > 0 {
			of = " of " + text.Size(p.Total)
		}
		fmt.Fprintf(a.Stderr, "\r%d/%d %s: %s%s %s \x1b[K", p.Index, p.Streams, text.OneLine(p.Stream), text.Size(p.Done), of, verb)
	}
	return progress, func() {
		if shown {
			fmt.Fprint(a.Stderr, "\r\x1b[K")
		}
	}
}
