package omflowtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// Counts is what the database says of everything that was ever accepted.
type Counts struct {
	Tickets    int `db:"tickets" json:"tickets"`       // filed
	Accepted   int `db:"accepted" json:"accepted"`     // rows ever committed to omflow_queuedata
	Effects    int `db:"effects" json:"effects"`       // of steps with a row
	Rowless    int `db:"rowless" json:"rowless"`       // effects of work that was submitted without a row: at least once, not exactly
	Waiting    int `db:"waiting" json:"waiting"`       // rows in omflow_queuedata
	Duplicates int `db:"duplicates" json:"duplicates"` // effects beyond the first of their ticket and step
	Lost       int `db:"lost" json:"lost"`             // accepted, but neither a row nor an effect is there
	Half       int `db:"half" json:"half"`             // both the row and the effect are there
}

// Count asks in one statement, so that the answer holds together even while steps run.
func Count(ctx context.Context, db *sqldb.DB) (Counts, error) {
	var c Counts
	if err := db.GetContext(ctx, &c, countAll); err != nil {
		return Counts{}, fmt.Errorf("count effects: %w", err)
	}
	return c, nil
}

// Check says what may never be seen at any time, whatever was killed: nil when every accepted step has either its row or
// its effect, and that once. Removing a row on purpose (dead purge) counts as lost.
func (c Counts) Check() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.Lost != 0, "%d accepted steps are lost", c.Lost)
	wrong(c.Duplicates != 0, "%d effects were applied more than once", c.Duplicates)
	wrong(c.Half != 0, "%d steps have an effect and still a row", c.Half)
	wrong(c.Accepted != c.Effects+c.Waiting, "accepted %d is not effects %d + waiting %d", c.Accepted, c.Effects, c.Waiting)
	return errors.Join(errs...)
}

// CheckFinished says what is wrong if this many tickets were to be filed and all of them to be closed by now.
func (c Counts) CheckFinished(tickets int) error {
	err := c.Check()
	if c.Tickets != tickets {
		err = errors.Join(err, fmt.Errorf("%d tickets were filed, want %d", c.Tickets, tickets))
	}
	if want := tickets * Steps; c.Effects != want || c.Waiting != 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d steps had their effect, %d are waiting", c.Effects, want, c.Waiting))
	}
	return err
}

// Progress is what can be asked often.
type Progress struct {
	Accepted int `db:"accepted" json:"accepted"`
	Effects  int `db:"effects" json:"effects"`
}

// CountProgress counts accepted steps and effects.
func CountProgress(ctx context.Context, db *sqldb.DB) (Progress, error) {
	var p Progress
	if err := db.GetContext(ctx, &p, countProgress); err != nil {
		return Progress{}, fmt.Errorf("count progress: %w", err)
	}
	return p, nil
}

// Share is the part of the work that one server did.
type Share struct {
	Server  string `db:"server" json:"server"`
	Effects int    `db:"effects" json:"effects"`
}

// CountShares counts the effects of each server, by name.
func CountShares(ctx context.Context, db *sqldb.DB) ([]Share, error) {
	var shares []Share
	if err := db.SelectContext(ctx, &shares, countShares); err != nil {
		return nil, fmt.Errorf("count effects per server: %w", err)
	}
	return shares, nil
}
