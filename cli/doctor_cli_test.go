package cli

import (
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

func TestDoctor(t *testing.T) {
	s := newStage(t)
	r := run(t, "", "doctor")
	want := "ok    environment  1 variable set, the others have their defaults\n" +
		"ok    booster      booster-1 at " + s.c.NC.ConnectedUrl() + ", NATS server " + s.c.NC.ConnectedServerVersion() +
		", JetStream answers\n" +
		"ok    streams      all streams, buckets and stores are there\n" +
		"ok    patches      PATCH has 0 B of 5.1 MiB, OBJ_PATCHES has 0 B of 90 MiB, KV_ROLLOUT has 0 B of 5.1 MiB\n" +
		"ok    clock        agrees with the Booster\n" +
		"skip  uploads      no worker on this host that knows where the uploaded files are\n" +
		"skip  database     DATABASE_URL is not set; only workers need it\n"
	if r.code != exitOK || !strings.HasPrefix(r.stdout, want) {
		t.Errorf("code %d, got\n%s\nwant\n%s", r.code, r.stdout, want)
	}

	for _, name := range []string{bus.StreamDead, bus.BucketStream(bus.BucketControl)} {
		if err := s.c.JS.DeleteStream(s.ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.c.JS.DeleteConsumer(s.ctx, bus.StreamWork, bus.ConsumerWorkers); err != nil {
		t.Fatal(err)
	}
	r = run(t, "", "doctor")
	if r.code != exitFailed || !strings.Contains(r.stdout, "fail  streams      not there: consumer workers of WORK, DEAD, KV_CONTROL\n") ||
		r.stderr != "" {
		t.Errorf("%+v", r)
	}
}

func TestDoctorWithoutABooster(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1")
	r := run(t, "", "doctor", "--json")
	if r.code != exitFailed || !strings.Contains(r.stdout, `"verdict": "fail"`) ||
		!strings.Contains(r.stdout, "no Booster answers at nats://127.0.0.1:1") {
		t.Errorf("%+v", r)
	}
}

func TestDoctorTakesTheSettingsOfTheServerAsTheWorkerDoes(t *testing.T) {
	t.Setenv("BOOSTER_URL", "")
	serverHome(t, `echo '{"BOOSTER_IP":"127.0.0.1","BOOSTER_PORT":"1","DATABASE_URL":"mysql://db/omflow"}'`)
	r := run(t, "", "doctor")
	if r.code != exitFailed || !strings.Contains(r.stdout, "no Booster answers at nats://127.0.0.1:1") ||
		!strings.Contains(r.stdout, "fail  database") {
		t.Errorf("%+v", r)
	}
	serverHome(t, "exit 1")
	if r = run(t, "", "doctor"); !strings.Contains(r.stdout, "warn  server       BOOSTER_IP: not set, and ") {
		t.Errorf("%+v", r)
	}
}
