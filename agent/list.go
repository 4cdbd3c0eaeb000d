package agent

import (
	"encoding/json"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// lister answers to those who ask which files this server should have.
type lister struct {
	node     string
	ignore   []string // AGENT_IGNORE
	baseline *baseline
}

func newLister(l lister) (*lister, error) { return complete(&l) }

const pageBytes = 1 << 20

func (l *lister) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointFiles, micro.HandlerFunc(func(r micro.Request) {
		var q bus.FilesQuery
		_ = json.Unmarshal(r.Data(), &q)
		_ = r.RespondJSON(l.page(q.After))
	}), micro.WithEndpointSubject(bus.EndpointFiles+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// page is the files of the baseline whose paths come after one, as many as a message takes.
func (l *lister) page(after string) bus.FilesPage {
	book := l.baseline.book()
	p := bus.FilesPage{
		Node: l.node, Baseline: book.Files.Digest(), Known: book.Files != nil, Version: book.Version, Ignore: l.ignore, Files: []bus.HomeFile{},
	}
	size := 0
	for _, name := range book.Files.Names() {
		if name <= after {
			continue
		}
		if size > pageBytes {
			p.More = true
			break
		}
		f := book.Files[name]
		p.Files = append(p.Files, bus.HomeFile{Path: name, SHA256: f.SHA256, Size: f.Size, Mode: uint32(f.Mode)})
		size += len(name) + 160
	}
	return p
}
