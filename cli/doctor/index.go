package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/worker/indexes"
)

const (
	probeTimeout = 2 * time.Second // for one look-up
	smallTable   = 1000            // rows that a look-up may read
	namedTables  = 5               // for which it is said what a look-up costs, largest first: each form has two
)

// judgeIndexes says which look-ups of the engine have no index, and what that costs. fix is what to do.
func judgeIndexes(ctx context.Context, db *sqldb.DB, check, fix string) (findings []diagnosis.Finding) {
	set := indexes.New(db)
	all, err := set.List(ctx)
	if err != nil {
		return []diagnosis.Finding{diagnosis.Warning(check, err.Error(), "")}
	}
	var missing []indexes.Index
	there, small := 0, 0
	for _, index := range all {
		switch {
		case index.HalfBuilt():
			findings = append(findings, diagnosis.Warning(check, "index "+index.Name+" is half built: it costs each write and helps nobody", fix))
		case index.Indexed:
			there++
		case index.Rows < smallTable && index.Kind != "queue": // a backlog grows within minutes
			small++
		default:
			missing = append(missing, index)
		}
	}
	slices.SortStableFunc(missing, func(a, b indexes.Index) int { return cmp.Compare(b.Rows, a.Rows) })
	for _, index := range missing[:min(len(missing), namedTables)] {
		findings = append(findings, diagnosis.Warning(check, fmt.Sprintf("%s has no index on %s: %s reads all its rows (%s)",
			index.Relation, index.Column, index.Reader(), lookUpCost(ctx, set, index)), fix))
	}
	if more := len(missing) - namedTables; more > 0 {
		findings = append(findings, diagnosis.Warning(check, text.Counted(more, "more look-up")+" of the engine without an index", fix))
	}
	if there > 0 && len(findings) == 0 {
		detail := "the look-ups of the engine have indexes"
		if small > 0 {
			detail += ", but for " + text.Counted(small, "look-up") + " in tables that are small yet"
		}
		findings = append(findings, diagnosis.OK(check, detail))
	}
	return findings
}

// lookUpCost measures one look-up, because nothing that is written down says how fast this database is.
func lookUpCost(ctx context.Context, set *indexes.Set, index indexes.Index) string {
	one, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	rows := "about " + text.Count(index.Rows)
	switch took, err := set.Probe(one, index); {
	case err == nil:
		return fmt.Sprintf("%s, %.1f ms now", rows, float64(took.Microseconds())/1000)
	case one.Err() != nil && ctx.Err() == nil:
		return fmt.Sprintf("%s, more than %s now", rows, probeTimeout)
	}
	return rows
}
