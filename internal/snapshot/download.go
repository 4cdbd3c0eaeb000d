package snapshot

import (
	"context"
	"fmt"
	"io"
)

// download asks the server for a snapshot of a stream and writes it to w. The server sends up to 8 MiB ahead and goes on when chunks are
// acknowledged, so w sets the pace and memory stays small. It calls passed after every chunk.
func (l link) download(ctx context.Context, stream string, w io.Writer, passed func(n int)) (described, error) {
	var answer described
	t := l.transfer()
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return answer, fmt.Errorf("%w: %w", errInterrupted, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	request := map[string]any{"deliver_subject": inbox, "chunk_size": chunkBytes}
	if err := l.ask(ctx, "STREAM.SNAPSHOT."+stream, request, &answer); err != nil {
		return answer, err
	}
	for {
		m, err := t.next(ctx, sub)
		if err != nil {
			return answer, err
		}
		if len(m.Data) == 0 { // the end, and how it came about
			if status := m.Header.Get(statusHeader); status != "" && status != statusOK {
				return answer, fmt.Errorf("%w by the server: %s %s", errInterrupted, status, m.Header.Get("Description"))
			}
			return answer, nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return answer, err
		}
		passed(len(m.Data))
		if m.Reply == "" {
			continue // the last chunk
		}
		if err := l.nc.Publish(m.Reply, nil); err != nil {
			return answer, fmt.Errorf("%w: %w", errInterrupted, err)
		}
	}
}
