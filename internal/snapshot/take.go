package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	takeTries = 3               // for one stream whose transfer is interrupted
	takePause = 2 * time.Second // before the next try: a Booster that is started again needs a moment

	ledTimeout = 10 * time.Second // until somebody leads every stream: an election
)

// TakeOptions may be left empty.
type TakeOptions struct {
	Progress func(Progress)
	Idle     time.Duration // a transfer in which nothing comes for so long is interrupted; default 30s
}

// Take writes a snapshot of everything on the bus, except streams in memory, to dir, which is made if it is not there. Counts are in the
// manifest that it returns. The manifest's file comes last: a directory without one is no snapshot, and the next Take begins it anew; a
// directory with one is refused. A transfer that is interrupted is tried again. When Take fails, it leaves none of its files.
func Take(ctx context.Context, js jetstream.JetStream, dir string, o TakeOptions) (m Manifest, err error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	t := taker{link: newLink(js, o.Idle), dir: dir, o: o}
	if err := t.prepare(); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(filepath.Join(dir, streamsDir))
		}
	}()
	names, err := t.streams(ctx)
	if err != nil {
		return m, err
	}
	m = Manifest{
		Format: Format, ID: newID(), Created: time.Now().UTC().Truncate(time.Millisecond), Version: buildinfo.Version(),
		Server: t.link.nc.ConnectedServerName() + " " + t.link.nc.ConnectedServerVersion(), Streams: []Stream{},
	}
	for i, name := range names {
		s, err := t.take(ctx, name, Progress{Stream: name, Index: i + 1, Streams: len(names)}, fileOf(len(names)-1-i, name))
		if err != nil {
			return m, fmt.Errorf("take stream %s: %w", name, err)
		}
		m.Streams = append(m.Streams, s)
	}
	slices.Reverse(m.Streams)
	if err := atomicfile.SyncDir(filepath.Join(dir, streamsDir)); err != nil {
		return m, err
	}
	data, err := m.encode()
	if err != nil {
		return m, err
	}
	return m, atomicfile.Write(filepath.Join(dir, manifestName), data, 0o600)
}

type taker struct {
	link link
	dir  string
	o    TakeOptions
}

func (t taker) prepare() error {
	if _, err := os.Lstat(filepath.Join(t.dir, manifestName)); err == nil {
		return fmt.Errorf("%s holds a snapshot already", t.dir)
	}
	if err := os.RemoveAll(filepath.Join(t.dir, streamsDir)); err != nil { // of a Take that was killed
		return err
	}
	return os.MkdirAll(filepath.Join(t.dir, streamsDir), 0o700)
}

// kept tells whether a stream is worth anything after a restart: what is in memory is not, and neither are heartbeats.
func kept(c jetstream.StreamConfig) bool {
	return c.Storage == jetstream.FileStorage && c.Name != bus.BucketStream(bus.BucketNodes)
}

// streams lists what is to be taken, in that order. It fails when nobody leads one of them for long: a snapshot without WORK is none.
func (t taker) streams(ctx context.Context) ([]string, error) {
	for end := time.Now().Add(ledTimeout); ; {
		names, silent, err := t.list(ctx)
		switch {
		case err != nil:
			return nil, fmt.Errorf("list streams: %w", err)
		case len(silent) == 0:
			takeOrder(names)
			return names, nil
		case time.Now().After(end):
			return nil, fmt.Errorf("nobody leads %s at the moment; try again in some seconds", strings.Join(silent, ", "))
		}
		if err := pause(ctx, brokenEvery); err != nil {
			return nil, err
		}
	}
}

// list asks once. In a cluster each stream is described by its leader, and the answer only names those that nobody answers for; a client's
// ListStreams drops these names.
func (t taker) list(ctx context.Context) (names, silent []string, err error) {
	for offset := 0; ; {
		var page struct {
			Total   int                     `json:"total"`
			Limit   int                     `json:"limit"`
			Streams []*jetstream.StreamInfo `json:"streams"`
			Missing []string                `json:"missing"`
		}
		if err := t.link.ask(ctx, "STREAM.LIST", map[string]int{"offset": offset}, &page); err != nil {
			return nil, nil, err
		}
		for _, s := range page.Streams {
			if kept(s.Config) && !slices.Contains(page.Missing, s.Config.Name) {
				names = append(names, s.Config.Name)
			}
		}
		for _, name := range page.Missing {
			if name != bus.BucketStream(bus.BucketNodes) {
				silent = append(silent, name)
			}
		}
		if offset += page.Limit; page.Limit <= 0 || offset >= page.Total {
			return names, silent, nil
		}
	}
}

// take brings one stream into its file, and begins it again when the transfer is interrupted.
func (t taker) take(ctx context.Context, name string, p Progress, file string) (Stream, error) {
	for try := 1; ; try++ {
		s, err := t.try(ctx, name, p, file)
		if err == nil || !errors.Is(err, errInterrupted) || try == takeTries || t.link.nc.IsClosed() {
			return s, err
		}
		if err := pause(ctx, takePause); err != nil {
			return s, err
		}
	}
}

func (t taker) try(ctx context.Context, name string, p Progress, file string) (Stream, error) {
	s := Stream{Name: name, File: file}
	out, err := os.OpenFile(filepath.Join(t.dir, filepath.FromSlash(file)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return s, err
	}
	defer func() { _ = out.Close() }() // what matters was synced
	t.o.Progress(p)
	sum := sha256.New()
	answer, err := t.link.download(ctx, name, io.MultiWriter(out, sum), func(n int) {
		p.Done += int64(n)
		t.o.Progress(p)
	})
	if err != nil {
		return s, err
	}
	if err := out.Sync(); err != nil {
		return s, err
	}
	s.Size, s.SHA256 = p.Done, hex.EncodeToString(sum.Sum(nil))
	if s.Config, err = compact(answer.Config); err != nil {
		return s, err
	}
	// Counted from the file: the server announces what it had when it began, and leaves out what was acknowledged until it came to it.
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	c, err := inspect(out)
	if err != nil {
		return s, err
	}
	s.Messages, s.Bytes, s.FirstSeq, s.LastSeq = c.messages, c.bytes, c.firstSeq, c.lastSeq
	s.FirstTime, s.LastTime, s.Consumers = c.firstTime, c.lastTime, c.consumers
	return s, nil
}

// compact checks and normalises JSON, so that the digest of the manifest does not depend on how a server spaces it.
func compact(config json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return json.Marshal(fields)
}
