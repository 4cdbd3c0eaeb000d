package patch

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// What programs of the release before write and read.
func TestAnnouncementsAndReportsAreAsBefore(t *testing.T) {
	t.Parallel()
	testkit.SameJSON[Announcement](t, `{"id":"ID"`+
		`,"object":"Object","size":27,"sha256":"SHA256","from":"From","to":"To","author":"Author","note":"Note"`+
		`,"created":"2026-01-02T03:04:28Z","files":29,"deletions":30,"bytes":31,"undoes":"Reverts"}`)
	testkit.SameJSON[Report](t, `{"patch":"Patch","node":"Node","seq":33,"created":"2026-01-02T03:04:34Z","state":"State","error":"Error"`+
		`,"from":"From","to":"To","files":35,"bytes":36,"deleted":37,"started":"2026-01-02T03:04:38Z"`+
		`,"finished":"2026-01-02T03:04:39Z"}`)
}
