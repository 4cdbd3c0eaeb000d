package diagnosis

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
)

// shareUploads is what to do when servers keep their uploaded files apart.
const shareUploads = "mount one directory on every server as its uploads/ (or MEDIA_ROOT): plugin/README.md, Several servers"

// uploadsOf is what a node sees of the server's uploaded files; nil if it does not look.
func uploadsOf(n bus.Node) *uploads.State {
	if n.Worker == nil {
		return nil
	}
	return n.Worker.Uploads
}

// uploadGroups puts those workers together that see one directory.
func uploadGroups(workers []bus.Node) (groups [][]bus.Node) {
	for _, n := range workers {
		if files := uploadsOf(n); files == nil || len(files.Marks) == 0 {
			continue
		}
		joined, rest := []bus.Node{n}, [][]bus.Node(nil)
		for _, group := range groups {
			if shares(*uploadsOf(n), group) {
				joined = append(group, joined...)
			} else {
				rest = append(rest, group)
			}
		}
		groups = append(rest, joined)
	}
	return groups
}

func shares(files uploads.State, group []bus.Node) bool {
	for _, n := range group {
		if files.Shares(*uploadsOf(n)) {
			return true
		}
	}
	return false
}

// describeGroup says which directory whose it is: "/srv/uploads of om1, om2".
func describeGroup(group []bus.Node) string {
	var names []string
	for _, n := range group {
		names = append(names, serverName(n))
	}
	return uploadsOf(group[0]).Dir + " of " + strings.Join(names, ", ")
}

func serverName(n bus.Node) string {
	if n.Worker != nil && n.Worker.Server != "" {
		return n.Worker.Server
	}
	return n.Name
}

func describeGroups(groups [][]bus.Node) string {
	var parts []string
	for _, group := range groups {
		parts = append(parts, describeGroup(group))
	}
	return strings.Join(parts, "; ")
}

// uploadFindings checks that the server on this host and the others have one directory of uploaded files.
func uploadFindings(ctx context.Context, c *bus.Client) []Finding {
	const check = "uploads"
	nodes, err := LivingNodes(ctx, c)
	if err != nil {
		return []Finding{Skipped(check, "the workers are not known: "+err.Error())}
	}
	host, _ := os.Hostname()
	var here *uploads.State
	for _, n := range nodes {
		if files := uploadsOf(n); files != nil && n.Host == host {
			here = files
		}
	}
	if here == nil {
		return []Finding{Skipped(check, "no worker on this host that knows where the uploaded files are")}
	}
	return []Finding{JudgeUploads(*here, nodes)}
}

// JudgeUploads compares a directory with those of the living workers.
func JudgeUploads(here uploads.State, nodes []bus.Node) Finding {
	const check = "uploads"
	if here.Problem != "" {
		return Failure(check, here.Problem, "mount or make "+here.Dir+", and let the user of the worker write there")
	}
	var same, others [][]bus.Node
	for _, group := range uploadGroups(nodes) {
		if shares(here, group) {
			same = append(same, group)
		} else {
			others = append(others, group)
		}
	}
	switch {
	case len(others) > 0:
		return Failure(check, here.Dir+" is not "+describeGroups(others), shareUploads)
	case len(same) == 0:
		return OK(check, here.Dir+"; no other server tells where its uploaded files are")
	}
	return OK(check, "one directory: "+describeGroups(same))
}

// uploadProblems finds servers that keep their uploaded files apart, or cannot get at them.
func uploadProblems(r Report) (found []Problem) {
	for _, n := range r.Workers {
		if files := uploadsOf(n); files != nil && files.Problem != "" {
			found = append(found, Problem{
				"uploads_unusable", fmt.Sprintf("server %s cannot use its uploaded files: %s", serverName(n), files.Problem),
				"Mount or make " + files.Dir + " on " + n.Host + ", and let the user of the worker write there.",
			})
		}
	}
	if groups := uploadGroups(r.Workers); len(groups) > 1 {
		found = append(found, Problem{
			"uploads_not_shared", "uploaded files are not in one directory: " + describeGroups(groups),
			"A file is there on some servers only, and steps that read it fail on the others; " + shareUploads + ".",
		})
	}
	return found
}
