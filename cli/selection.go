package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// selectionFlags adds --flow and --kind.
func selectionFlags(cmd *cobra.Command, s *bus.Selection) {
	cmd.Flags().StringVar(&s.Flow, "flow", "", "only steps of this flow")
	cmd.Flags().StringVar(&s.Kind, "kind", "", "only steps of this kind of queue, for example FormFlow")
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
