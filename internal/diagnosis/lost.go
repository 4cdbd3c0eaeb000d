package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// patchStore is what the Boosters store of patches, as far as something is missing there.
type patchStore struct {
	known bool   // somebody looked
	last  uint64 // sequence of the last announcement; 0: PATCH has none
	lost  []LostPatch
}

// LostPatch is a patch that servers wait for and cannot get, because somebody removed a part of it from the Boosters.
type LostPatch struct {
	Patch   string   `json:"patch"`
	Note    string   `json:"note"`
	Author  string   `json:"author"`
	Lost    string   `json:"lost"`    // artifact or announcement
	Servers []string `json:"servers"` // that wait for it
	Have    []string `json:"have"`    // that have applied it
}

// What can be lost of a patch.
const (
	LostArtifact     = "artifact"
	LostAnnouncement = "announcement"
)

// readPatchStore looks for patches that servers wait for and cannot get. It asks the nodes' reports only if a part of a patch is missing.
func readPatchStore(ctx context.Context, c *bus.Client, nodes []bus.Node) (store patchStore, err error) {
	call, cancel := ask(ctx)
	defer cancel()
	announced, err := patch.List(call, c.JS)
	if err == nil {
		store.lost, err = lostArtifacts(call, c, announced)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return patchStore{}, nil // which `status` and `doctor` say by themselves
	}
	if err != nil {
		return patchStore{}, err
	}
	store.known = true
	if len(announced) > 0 {
		store.last = announced[len(announced)-1].Seq
	}
	store.lost = append(store.lost, lostAnnouncements(announced, nodes)...)
	return store, nil
}

// lostArtifacts are the announced patches whose artifact is not stored, and that some server has yet to fetch.
func lostArtifacts(ctx context.Context, c *bus.Client, announced []patch.Announcement) (lost []LostPatch, err error) {
	unstored, err := patch.Unstored(ctx, c.JS, announced)
	if err != nil || len(unstored) == 0 {
		return nil, err
	}
	list, err := ListPatches(ctx, c)
	if err != nil {
		return nil, err
	}
	nodes, err := LivingNodes(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if !slices.ContainsFunc(unstored, func(a patch.Announcement) bool { return a.ID == p.ID }) {
			continue
		}
		l := LostPatch{Patch: p.ID, Note: p.Note, Author: p.Author, Lost: LostArtifact, Servers: []string{}, Have: []string{}}
		for _, n := range p.Nodes {
			fetched := slices.ContainsFunc(nodes, func(o bus.Node) bool { return o.Agent != nil && o.Name == n.Node && o.Agent.PatchNext == p.ID })
			switch n.State {
			case patch.StateApplied:
				l.Have = append(l.Have, n.Node)
			case StateWaiting, StateAway, patch.StateRetrying:
				if !fetched {
					l.Servers = append(l.Servers, n.Node)
				}
			}
		}
		if len(l.Servers) > 0 {
			lost = append(lost, l)
		}
	}
	return lost, nil
}

// lostAnnouncements are the patches that agents are at and that PATCH does not have.
func lostAnnouncements(announced []patch.Announcement, nodes []bus.Node) (lost []LostPatch) {
	for _, n := range nodes {
		if n.Agent == nil {
			continue
		}
		id := n.Agent.PatchNext
		if id == "" {
			id = n.Agent.PatchWants
		}
		if id == "" || slices.ContainsFunc(announced, func(a patch.Announcement) bool { return a.ID == id }) {
			continue
		}
		i := slices.IndexFunc(lost, func(l LostPatch) bool { return l.Patch == id })
		if i < 0 {
			i, lost = len(lost), append(lost, LostPatch{Patch: id, Lost: LostAnnouncement, Have: []string{}})
		}
		lost[i].Servers = append(lost[i].Servers, n.Name)
	}
	return lost
}

// problems says which patches cannot reach which servers, and what to do.
func (s patchStore) problems() (found []Problem) {
	for _, l := range s.lost {
		name, waiting := named(l.Patch, l.Note), strings.Join(l.Servers, ", ")
		if l.Lost == LostAnnouncement {
			found = append(found, Problem{
				"announcement_lost", fmt.Sprintf("%s is not announced in %s any more: somebody removed it there. %s waits with it", name,
					bus.StreamPatch, waiting),
				fmt.Sprintf("`omflow-booster patch abort %s` lets that server go on with later patches. If you want the patch, publish its "+
					"files again.", l.Patch),
			})
			continue
		}
		again := "publish its files again"
		if len(l.Have) > 0 {
			again += "; " + strings.Join(l.Have, ", ") + " has them"
		}
		found = append(found, Problem{
			"artifact_lost", fmt.Sprintf("the artifact of %s is not in the store %s as it was announced: somebody removed or changed it. "+
				"These servers cannot get it: %s", name, bus.ObjectPatches, waiting),
			fmt.Sprintf("If %s still has the file of that patch: `omflow-booster patch publish FILE`. If not: `omflow-booster patch "+
				"abort %s`, then %s.", OrUnknown(l.Author), l.Patch, again),
		})
	}
	return found
}

// PatchProblems are the patches that servers wait for and cannot get.
func PatchProblems(ctx context.Context, c *bus.Client, nodes []bus.Node) ([]Problem, error) {
	store, err := readPatchStore(ctx, c, nodes)
	return store.problems(), err
}

// lostFindings are the same for `doctor`.
func lostFindings(ctx context.Context, c *bus.Client) (findings []Finding) {
	nodes, err := LivingNodes(ctx, c)
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return []Finding{Skipped("patches", err.Error())}
	}
	problems, err := PatchProblems(ctx, c, nodes)
	if err != nil {
		return []Finding{Skipped("patches", err.Error())}
	}
	for _, p := range problems {
		findings = append(findings, Warning("patches", p.Text, p.Hint))
	}
	return findings
}

// named is how messages name a patch.
func named(id, note string) string {
	if note == "" {
		return "patch " + id
	}
	return "patch " + id + " (" + text.Shorten(note, 40) + ")"
}
