package outbox

import (
	"context"
	"fmt"
)

// Index is the one thing of ours on a table of the OMFLOW Server, and only `omflow-booster adopt` makes it: the engine looks
// its rows up by queue_id several times in each step, and has no index for that.
const Index = "omflow_booster_queue_id"

// Indexed tells whether omflow_queuedata has any index that a look-up by queue_id can use.
func (s *Store) Indexed(ctx context.Context) (bool, error) {
	var indexed bool
	if err := s.db.GetContext(ctx, &indexed, s.st.QueueIndexed); err != nil {
		return false, fmt.Errorf("look for an index on omflow_queuedata: %w", err)
	}
	return indexed, nil
}

// AddIndex makes the index while the server goes on working. What an earlier try has left half-done goes first.
func (s *Store) AddIndex(ctx context.Context) error {
	if err := s.DropIndex(ctx); err != nil {
		return err
	}
	if _, err := s.db.ExecContext(ctx, s.st.AddQueueIndex); err != nil {
		return fmt.Errorf("%s: %w", s.st.AddQueueIndex, err)
	}
	return nil
}

// DropIndex removes the index if it is ours, and no other.
func (s *Store) DropIndex(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, s.st.DropQueueIndex); err != nil {
		return fmt.Errorf("%s: %w", s.st.DropQueueIndex, err)
	}
	return nil
}

// HasOurs tells whether the index that AddIndex makes is there.
func (s *Store) HasOurs(ctx context.Context) (bool, error) {
	var ours bool
	if err := s.db.GetContext(ctx, &ours, s.st.QueueIndexOurs); err != nil {
		return false, fmt.Errorf("look for index %s: %w", Index, err)
	}
	return ours, nil
}
