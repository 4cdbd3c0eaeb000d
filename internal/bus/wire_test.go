package bus

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// What programs of the release before write and read.
func TestHeartbeatsAreAsBefore(t *testing.T) {
	t.Parallel()
	testkit.SameJSON[Node](t, `{"role":"Role","name":"Name","host":"Host","address":"Address","pid":1,"version":"Version"`+
		`,"started":"2026-01-02T03:04:02Z","at":"2026-01-02T03:04:03Z","instance":"Instance","booster":{"mode":"Mode"`+
		`,"duty":"Duty","takeover":"Takeover","address":"Address","sync":"Sync","store_bytes":4,"store_limit":5`+
		`,"free_bytes":6,"hosts":["Hosts"],"notes":["Notes"]},"worker":{"server":"Server","executor":"Executor","slots":7`+
		`,"running":8,"done":9,"in_hand":52,"failed":10,"dead":11,"redelivered":12,"skipped":13,"database":"Database"`+
		`,"database_id":"DatabaseID","database_place":"Place","reconciler":true,"uploads":{"dir":"Dir","marks":["Marks"]`+
		`,"problem":"Problem"}},"agent":{"os":"OS","home_version":"HomeVersion","patch_seq":14,"patch_state":"PatchState"`+
		`,"patch_asks":true,"patch_stream":"PatchStream","drift":15,"stays":16,"patch_next":"PatchNext"`+
		`,"patch_wants":"PatchWants","server_state":"Server","worker_state":"Worker","server_pid":17,"worker_pid":18`+
		`,"restarts":19,"cordoned":true,"stays_first":{"path":"Path","why":"Why"},"held":"Held","moving":"Moving"`+
		`,"baseline":"Baseline","witness":"Witness","witness_address":"WitnessAddress","witness_state":"WitnessState"`+
		`,"witness_bytes":20,"witness_free":21,"witness_pid":22,"last_error":"LastError"}}`)
}

func TestAnswersAboutDriftAreAsBefore(t *testing.T) {
	t.Parallel()
	testkit.SameJSON[Drift](t, `{"node":"Node","watch":"Watch","version":"Version","baseline":"Baseline","since":"2026-01-02T03:04:23Z"`+
		`,"published":"Published","files":[{"path":"Path","kind":"Kind"}],"repair":"Repair","total":24,"seq":25`+
		`,"moving":"Moving","held":"Held","digest":"Digest","repairing":true,"stays":[{"path":"Path","why":"Why"}]`+
		`,"stays_total":26}`)
}
