package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The stand-in for the OMFLOW Server under real Django: the home of the plugin's tests with what lies in standin/ on top.
const (
	flow       = "5d0a0000000000000000000000000001"
	stepsEach  = 8 // of a ticket
	valuesEach = 4 // rows of value history of an old ticket
	submitAt   = 100
)

// python finds a Python with Django and psycopg2.
func python(ctx context.Context) (string, error) {
	for _, program := range []string{"python3", "/usr/bin/python3"} { // PATH may have another before Debian's
		if exec.CommandContext(ctx, program, "-c", "import django, psycopg2").Run() == nil {
			return program, nil
		}
	}
	return "", errors.New("Django or psycopg2 is missing: apt-get install python3 python3-django python3-psycopg2 (Debian)")
}

// home is the directory of one server.
type home struct {
	dir    string
	python string
	debug  bool
	site   *site
}

func newHome(s *site, python string) (*home, error) {
	dir, err := s.fresh("home")
	if err != nil {
		return nil, err
	}
	for _, from := range []string{"plugin/tests/home", "test/bench/standin"} {
		if err := overlay(filepath.Join(s.root, from), dir); err != nil {
			return nil, err
		}
	}
	return &home{dir: dir, python: python, site: s}, nil
}

// overlay copies files over what is there.
func overlay(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.Name() == "__pycache__":
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o644)
	})
}

// env is what every process of the server needs to know.
func (h *home) env(database string) []string {
	settings, _ := json.Marshal(map[string]any{ // strings and numbers always can
		"NAME": database, "HOST": "127.0.0.1", "PORT": strconv.Itoa(h.site.postgres.port), "USER": "bench", "PASSWORD": "bench",
	})
	env := []string{
		"DJANGO_SETTINGS_MODULE=omflow.bench_settings", "STANDIN_DATABASE=" + string(settings), "PYTHONPATH=" + filepath.Join(h.site.root, "plugin"),
		"PYTHONDONTWRITEBYTECODE=1", "OMFLOW_HOME=" + h.dir, "OMFLOW_PYTHON=" + h.python,
	}
	if h.debug {
		env = append(env, "BENCH_DEBUG=1")
	}
	return env
}

// indexes are those that the engine's look-ups lack as installed; `omflow-booster adopt` makes them.
var indexes = []string{
	"CREATE INDEX ON omflow_queuedata (queue_id)",
	"CREATE INDEX ON omformmodel_omdata_" + flow + "_valueh1234 (data_no)",
	"CREATE INDEX ON ommission_missions (data_no)",
}

// template makes a database of a server in use: so many old tickets, each with its values and a mission. Measurements copy it.
func (h *home) template(ctx context.Context, name string, tickets int, indexed bool) error {
	pg := h.site.postgres
	if _, err := pg.create(ctx, name, "template0"); err != nil {
		return err
	}
	tables := exec.CommandContext(ctx, h.python, "tables.py")
	tables.Dir, tables.Env = h.dir, append(os.Environ(), h.env(name)...)
	if out, err := tables.CombinedOutput(); err != nil {
		return fmt.Errorf("make the tables of the server: %w\n%s", err, out)
	}
	form := "omformmodel_omdata_" + flow
	old := strconv.Itoa(tickets)
	statements := []string{
		"INSERT INTO omformflow_flowactive (flow_uuid, version, is_active, undeploy_flag) VALUES ('" + flow + "', 1, true, false)",
		"INSERT INTO " + form + " (data_no, data_id, history, closed, status, text) SELECT n, n, false, true, 'FITEM_8', repeat('old ', 50) " +
			"FROM generate_series(1, " + old + ") n",
		"INSERT INTO " + form + "_valueh1234 (form_id, data_no, point, value) SELECT n, n, 'FITEM_' || k, repeat('value ', 30) " +
			"FROM generate_series(1, " + old + ") n, generate_series(1, " + strconv.Itoa(valuesEach) + ") k",
		"INSERT INTO ommission_missions (data_no, data_id, closed, text) SELECT n, n, true, repeat('mission ', 20) " +
			"FROM generate_series(1, " + old + ") n",
	}
	if indexed {
		statements = append(statements, indexes...)
	}
	return pg.exec(ctx, name, append(statements, "VACUUM ANALYZE")...)
}

// backlog inserts new tickets and the row of the first step of each. They wait.
func backlog(ctx context.Context, pg *postgres, database string, first, tickets int) error {
	form := "omformmodel_omdata_" + flow
	return pg.exec(ctx, database, fmt.Sprintf(`WITH filed AS (
		INSERT INTO %[1]s (data_no, data_id, history, closed, status, text) SELECT n, n, false, false, 'filed', repeat('new ', 50)
		FROM generate_series(%[2]d, %[3]d) n RETURNING id, data_no)
		INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param) SELECT '%[4]s' || data_no || 'FITEM_1', 'FormFlow',
		'omformflow.production.%[4]s.1.main', 'main', json_build_object('flow_uuid', '%[4]s', 'table_uuid', '%[4]s', 'data_no', data_no,
		'form', id, 'place', 1, 'flowlog', true, 'error', false)::text FROM filed ORDER BY data_no`, form, first, first+tickets-1, flow))
}

// system is how the steps of a measurement are run.
type system interface {
	// start starts what runs steps. The rows wait already.
	start(ctx context.Context, database string) error
	// cpu is the processor time that each part has used.
	cpu() map[string]time.Duration
	close()
}

// stock runs steps as the OMFLOW Server does alone.
type stock struct {
	home *home
	web  *process
}

func (s *stock) start(_ context.Context, database string) (err error) {
	s.web, err = command{
		name: "web", dir: s.home.dir, argv: []string{s.home.python, "stock.py"},
		env: append(s.home.env(database), "BENCH_STOCK=1"),
	}.start()
	return err
}

func (s *stock) cpu() map[string]time.Duration {
	times := cpuOf([]*process{s.web})
	times["postgresql"] = cpuOf([]*process{s.home.site.postgres.process})["postgresql"]
	return times
}

func (s *stock) close() { s.web.end() }

// boosted runs steps with a Booster, and with a worker on each host.
type boosted struct {
	site    *site
	homes   []*home
	limits  []*cgroup // of the hosts; nil: none
	slots   int
	booster *booster
	workers []*process
}

func (b *boosted) start(ctx context.Context, database string) error {
	dir, err := b.site.fresh("booster")
	if err != nil {
		return err
	}
	if b.booster, err = startBooster(ctx, b.site, dir); err != nil {
		return err
	}
	for i, h := range b.homes {
		name := "worker-" + strconv.Itoa(i+1)
		c := command{
			name: name, dir: h.dir, argv: []string{b.site.binary, "worker"},
			env: append(append(h.env(database), b.booster.env()...), "DATABASE_URL="+b.site.postgres.url(database), "WORKER_NAME="+name,
				"WORKER_SOCKET="+b.socket(i), "WORKER_SLOTS="+strconv.Itoa(b.slots)),
		}
		if b.limits != nil {
			c.limit = b.limits[i]
		}
		w, err := c.start()
		if err != nil {
			return err
		}
		b.workers = append(b.workers, w)
	}
	for i, w := range b.workers {
		if err := w.ready(ctx, accepts(socketClient(b.socket(i)))); err != nil {
			return err
		}
	}
	return b.submit(ctx, database)
}

func (b *boosted) socket(i int) string { return filepath.Join(b.homes[i].dir, "worker.sock") }

// submit hands the waiting rows to the workers, as web processes do.
func (b *boosted) submit(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, b.site.postgres.url(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT json_build_object('row', id, 'queue_id', queue_id, 'name', name, 'module_name', module_name, "+
		"'method_name', method_name, 'input_param', input_param)::text FROM omflow_queuedata ORDER BY id")
	if err != nil {
		return err
	}
	items, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for n := 0; len(items) > 0; n++ {
		some := items[:min(submitAt, len(items))]
		items = items[len(some):]
		if err := post(ctx, socketClient(b.socket(n%len(b.workers))), []byte(strings.Join(some, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

func (b *boosted) cpu() map[string]time.Duration {
	times := map[string]time.Duration{}
	for _, w := range b.workers {
		own := cpuAlone(w.pid())
		times["worker"] += own
		times["runners"] += cpuOf([]*process{w})[w.name] - own
	}
	for _, p := range []*process{b.booster.process, b.site.postgres.process} {
		times[p.name] = cpuOf([]*process{p})[p.name]
	}
	return times
}

func (b *boosted) close() {
	for _, w := range b.workers {
		w.end()
	}
	b.booster.close()
}

// drained is what a measurement of waiting steps gives.
type drained struct {
	Rate  float64            `json:"steps_per_s"`
	CPU   map[string]float64 `json:"cpu_ms_per_step"` // by process
	Load  float64            `json:"load"`
	Other float64            `json:"others_cores"`
}

func (d drained) together() (sum float64) {
	for _, v := range d.CPU {
		sum += v
	}
	return sum
}

// drain runs waiting steps in a copy of a template, and looks at the middle of it: without the start, and without the end, at which
// not every runner has something to do. It fails when a step has no effect, or two.
func drain(ctx context.Context, s *site, srv system, template string, tickets int) (d drained, err error) {
	const database = "standin"
	if _, err := s.postgres.create(ctx, database, template); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.postgres.drop(context.WithoutCancel(ctx), database)) }()
	if err := backlog(ctx, s.postgres, database, 10_000_000, tickets); err != nil {
		return d, err
	}
	if err := s.postgres.settle(ctx); err != nil {
		return d, err
	}
	conn, err := pgx.Connect(ctx, s.postgres.url(database))
	if err != nil {
		return d, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	d.Load = loadAverage()
	defer srv.close()
	if err := srv.start(ctx, database); err != nil {
		return d, err
	}
	steps := tickets * stepsEach
	from, err := reach(ctx, conn, srv, steps/10)
	if err != nil {
		return d, err
	}
	to, err := reach(ctx, conn, srv, steps*9/10)
	if err != nil {
		return d, err
	}
	d.between(from, to)
	return d, complete(ctx, conn, steps)
}

// moment is how far a measurement is.
type moment struct {
	at      time.Time
	steps   int
	cpu     map[string]time.Duration
	machine time.Duration
	self    time.Duration
}

func (d *drained) between(from, to moment) {
	steps, took := float64(to.steps-from.steps), to.at.Sub(from.at)
	d.Rate, d.CPU = steps/took.Seconds(), map[string]float64{}
	others := to.machine - from.machine - (to.self - from.self)
	for name := range to.cpu {
		used := to.cpu[name] - from.cpu[name]
		d.CPU[name] = used.Seconds() * 1000 / steps
		others -= used
	}
	d.Other = max(0, others.Seconds()/took.Seconds())
}

// lookEvery is how often the effects are counted: the newest number is enough, and costs the database nothing.
const lookEvery = 50 * time.Millisecond

// reach waits until so many steps have had their effect.
func reach(ctx context.Context, conn *pgx.Conn, srv system, steps int) (m moment, err error) {
	for {
		err := conn.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM omformmodel_effect").Scan(&m.steps)
		if err != nil {
			return m, fmt.Errorf("waiting for %d steps: %w", steps, errors.Join(context.Cause(ctx), err))
		}
		if m.steps >= steps {
			m.at, m.cpu, m.machine, m.self = time.Now(), srv.cpu(), cpuMachine(), cpuSelf()
			return m, nil
		}
		select {
		case <-ctx.Done():
			return m, fmt.Errorf("%d of %d steps: %w", m.steps, steps, context.Cause(ctx))
		case <-time.After(lookEvery):
		}
	}
}

// complete waits for the end, and counts.
func complete(ctx context.Context, conn *pgx.Conn, steps int) error {
	for {
		var waiting, effects, different int
		err := conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM omflow_queuedata), (SELECT count(*) FROM omformmodel_effect), "+
			"(SELECT count(*) FROM (SELECT DISTINCT number, point FROM omformmodel_effect) d)").Scan(&waiting, &effects, &different)
		switch {
		case err != nil:
			return fmt.Errorf("waiting for the end: %w", errors.Join(context.Cause(ctx), err))
		case waiting > 0:
		case effects != steps || different != steps:
			return fmt.Errorf("%d steps have had %d effects, %d different ones", steps, effects, different)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d rows wait: %w", waiting, context.Cause(ctx))
		case <-time.After(lookEvery):
		}
	}
}
