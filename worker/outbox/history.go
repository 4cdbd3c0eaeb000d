package outbox

import (
	"context"
	"fmt"
	"time"
)

// Attempt is one line of the step history.
type Attempt struct {
	WorkID   string    `db:"work_id"`
	Kind     string    `db:"kind"`
	Flow     string    `db:"flow"`
	Ticket   string    `db:"ticket"`
	Worker   string    `db:"worker"`
	Attempt  int       `db:"attempt"`
	Outcome  string    `db:"outcome"` // done, failed or dead
	Error    string    `db:"error"`
	Started  time.Time `db:"started_at"`
	Duration int64     `db:"duration_us"`
}

// Record writes lines of the history.
func (s *Store) Record(ctx context.Context, attempts []Attempt) error {
	for _, chunk := range chunks(attempts, insertMax) {
		if _, err := s.db.NamedExecContext(ctx, s.st.InsertHistory, chunk); err != nil {
			return fmt.Errorf("write step history: %w", err)
		}
	}
	return nil
}

// PruneReleases removes notes on steps that are gone.
func (s *Store) PruneReleases(ctx context.Context) error {
	table, err := s.QueueTable(ctx)
	if err != nil || !table.Found {
		return err // without the table it is not known which steps are gone
	}
	if _, err := s.db.ExecContext(ctx, s.st.PruneReleases); err != nil {
		return fmt.Errorf("prune given-back deliveries: %w", err)
	}
	return nil
}

// Prune removes at most limit lines of the history that are older than before, and returns how many it removed.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (int64, error) {
	res, err := s.db.ExecContext(ctx, s.st.PruneHistory, before, limit)
	if err != nil {
		return 0, fmt.Errorf("prune step history: %w", err)
	}
	return res.RowsAffected()
}
