package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// selection is a choice of steps by what their subject says; an empty field chooses all.
type selection struct {
	kind string
	flow string
}

func (s *selection) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.flow, "flow", "", "only steps of this flow")
	cmd.Flags().StringVar(&s.kind, "kind", "", "only steps of this kind of queue, for example FormFlow")
}

func (s selection) empty() bool { return s == selection{} }

// filter is the selection as a filter on the subjects of a stream: those of bus.WorkSubject or bus.DeadSubject.
func (s selection) filter(subject namer) string { return filter(subject, s.kind, s.flow, "") }

// filterID finds a step of which only the id is known.
func filterID(subject namer, id work.ID) string { return filter(subject, "", "", id.String()) }

// namer is bus.WorkSubject or bus.DeadSubject.
type namer func(kind, flow, id string) string

// filter builds the subject as the bus does, so that the same characters are replaced, and then opens what is not given.
func filter(subject namer, kind, flow, id string) string {
	tokens := strings.Split(subject(kind, flow, id), ".")
	for i, given := range []string{kind, flow, id} {
		if given == "" {
			tokens[i+1] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// subjectTokens returns what a subject of WORK or DEAD says of its step. A flow that has no name is empty.
func subjectTokens(subject string) (kind, flow, id string) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 {
		return "", "", bus.SubjectID(subject)
	}
	if tokens[2] == bus.Token("") {
		tokens[2] = ""
	}
	return tokens[1], tokens[2], tokens[3]
}

// limitFlag adds --limit, and checkLimit refuses one that shows nothing.
func limitFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 20, "how many to show at most")
}

func checkLimit(limit int) error {
	if limit < 1 {
		return usageError{fmt.Errorf("--limit %d shows nothing; use 1 or more", limit)}
	}
	return nil
}

// parseIDs reads step ids from a command line.
func parseIDs(args []string) ([]work.ID, error) {
	ids := make([]work.ID, 0, len(args))
	for _, arg := range args {
		id, err := work.ParseID(arg)
		if err != nil {
			return nil, usageError{err}
		}
		ids = append(ids, id)
	}
	return ids, nil
}
