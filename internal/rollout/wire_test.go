package rollout

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// What programs of the release before write and read.
func TestPlansAreAsBefore(t *testing.T) {
	t.Parallel()
	testkit.SameJSON[Plan](t, `{"format":40,"patch":"Patch","state":"State","reason":"Reason","by":"By","changed":"2026-01-02T03:04:41Z"`+
		`,"approved_by":"ApprovedBy","approved_at":"2026-01-02T03:04:42Z","max_unavailable":43,"max_failures":44`+
		`,"canary":"Canary","window":"Window","approval":true,"held":"Held","paced":true,"fetch":["Fetch"]`+
		`,"grants":{"om1":{"at":"2026-01-02T03:04:45Z","outcome":"Outcome","reason":"Reason","until":"2026-01-02T03:04:46Z"`+
		`,"report":47}},"tolerated":48,"migration":{"node":"Node","until":"2026-01-02T03:04:49Z"`+
		`,"done":"2026-01-02T03:04:50Z"},"resolutions":{"om1":"Resolutions"}}`)
}
