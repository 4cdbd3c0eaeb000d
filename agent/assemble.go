package agent

import (
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// site is what the agent has opened: this host, its home, and what it knows of patches.
type site struct {
	cfg     *Config
	client  *bus.Client
	node    string // name of the agent
	dir     *dataDir
	home    *homeDir
	journal *patch.Journal
	trust   *trust
	ledger  *ledger
	log     zerolog.Logger
}

// parts are what the agent runs, asks and describes.
type parts struct {
	node      string
	home      *homeDir
	ledger    *ledger
	host      *host
	witness   *witness
	status    *status
	drift     *drift
	resumer   *resumer
	updater   *updater
	repairs   *repairOrders
	endpoints []endpoints
}

// driftAnswer is what others may ask of changes, and of how it goes with an order to bring them back.
func (p *parts) driftAnswer() bus.Drift {
	d := p.drift.answer(p.node)
	d.Seq = p.ledger.read().Seq
	p.repairs.describe(&d)
	return d
}

// workshop has what the parts that deal with patches share.
type workshop struct {
	site

	parts     *parts
	orders    chan struct{} // wakes the updater
	baseline  *baseline
	reports   *reporter
	turns     turns
	fetcher   *fetcher
	vacancy   *vacancy
	installer *installer
	donor     *packer
}

// made returns a part, and keeps the first error of all.
func made[T any](part *T, err error) func(first *error) *T {
	return func(first *error) *T {
		if *first == nil {
			*first = err
		}
		return part
	}
}

// assemble makes all parts, each of those above it. mark is what the processes of this agent are found by.
func (a *Agent) assemble(s site, mark string) (*parts, error) {
	p := &parts{node: s.node, home: s.home, ledger: s.ledger}
	var err error
	p.host = made(newHost(s.cfg, a.deps.WorkerCommand, s.node, mark, a.log))(&err)
	p.witness = made(newWitness(s, a.deps.WitnessCommand, mark, a.log))(&err)
	p.status = made(newStatus(interrupted(s.journal)))(&err)
	w := &workshop{site: s, parts: p, orders: make(chan struct{}, 1), turns: turns{js: s.client.JS, node: s.node, every: s.cfg.PatchEvery}}
	for _, make := range []func() error{w.watch, w.install, w.donate, w.update} {
		if err == nil {
			err = make()
		}
	}
	return p, err
}

// watch makes what compares the home with its baseline.
func (w *workshop) watch() (err error) {
	w.baseline = made(openBaseline(w.cfg, w.dir, w.home, w.log))(&err)
	sifts := made(newSifter(w.cfg.WatchQuiet, w.parts.host.started, windowsThere(w.client.JS)))(&err)
	if err == nil {
		w.parts.drift, err = newDrift(w.cfg, w.baseline, sifts, w.log)
	}
	return err
}

// install makes what brings an artifact into the home, and what goes on with one after a crash.
func (w *workshop) install() (err error) {
	p := w.parts
	w.reports = made(newReporter(reporter{node: w.node, home: w.home, dir: w.dir, ledger: w.ledger, js: w.client.JS, log: w.log}))(&err)
	w.fetcher = made(newFetcher(w.dir, w.client.JS, w.trust))(&err)
	w.vacancy = made(newVacancy(vacancy{
		cfg: w.cfg, home: w.home, journal: w.journal, ledger: w.ledger, baseline: w.baseline, status: p.status,
	}))(&err)
	runner := made(newHooks(hooks{cfg: w.cfg, journal: w.journal, once: p.host.once, turns: w.turns, log: w.log}))(&err)
	restarts := made(newRestarter(p.host, w.log))(&err)
	w.installer = made(newInstaller(installer{
		node: w.node, home: w.home, dir: w.dir, journal: w.journal, restarts: restarts, hooks: runner, baseline: p.drift, reports: w.reports,
		vacancy: w.vacancy, log: w.log,
	}))(&err)
	p.resumer = made(newResumer(resumer{
		journal: w.journal, installer: w.installer, host: p.host, vacancy: w.vacancy, drift: p.drift, status: p.status, log: w.log,
	}))(&err)
	return err
}

// donate makes what answers other agents and the orders of operators.
func (w *workshop) donate() (err error) {
	p, js := w.parts, w.client.JS
	settings := made(newSealer(sealer{
		node: w.node, given: w.cfg.Provision == provisionSettings, home: w.home, js: js, trust: w.trust, log: w.log,
	}))(&err)
	desk := made(newDonor(w.orders, settings.seal))(&err)
	w.donor = made(newPacker(packer{
		node: w.node, provision: w.cfg.Provision, home: w.home, dir: w.dir, js: js, trust: w.trust, ledger: w.ledger, baseline: w.baseline,
		drift: p.drift, donor: desk, log: w.log,
	}))(&err)
	p.repairs = made(newRepairOrders(w.orders))(&err)
	release := made(newReleaser(releaser{trust: w.trust, drift: p.drift, wake: w.orders, log: w.log}))(&err)
	list := made(newLister(lister{node: w.node, ignore: w.cfg.Ignore, baseline: w.baseline}))(&err)
	p.endpoints = []endpoints{desk, p.repairs, release, list}
	return err
}

// update makes what walks the stream of patches.
func (w *workshop) update() (err error) {
	p, js := w.parts, w.client.JS
	donors := made(newRecipient(w.client.NC))(&err)
	places := made(newPlaceOrders(w.baseline, w.orders))(&err)
	align := made(newAligner(aligner{
		node: w.node, client: w.client, ledger: w.ledger, status: p.status, baseline: w.baseline, scanner: p.drift.scanner, orders: places,
		log: w.log,
	}))(&err)
	provision := made(newProvisioner(provisioner{
		home: w.home, trust: w.trust, status: p.status, donors: donors, artifacts: w.fetcher, installer: w.installer, names: align, log: w.log,
	}))(&err)
	prepare := made(newPreparation(preparation{
		js: js, home: w.home, donor: w.donor, trust: w.trust, status: p.status, resumer: p.resumer, aligner: align, provisioner: provision,
	}))(&err)
	reverts := made(newReverter(reverter{
		node: w.node, dir: w.dir, js: js, trust: w.trust, ledger: w.ledger, journal: w.journal, log: w.log,
	}))(&err)
	p.endpoints = append(p.endpoints, places, reverts)
	judge := made(w.judge(reverts))(&err)
	chores := made(w.chores(donors))(&err)
	pauses := made(newPauses(pauses{orders: w.orders, moved: p.drift.moved, quiet: w.cfg.WatchQuiet, touch: p.drift.touch}))(&err)
	p.updater = made(newUpdater(updater{
		cfg: w.cfg, nc: w.client.NC, ledger: w.ledger, status: p.status, pauses: pauses, preparer: prepare, baselines: w.baseline, dealer: judge,
		chores: chores, reports: w.reports, log: w.log,
	}))(&err)
	return err
}

// judge makes what deals with one announcement.
func (w *workshop) judge(reverts *reverter) (j *judge, err error) {
	p := w.parts
	found := made(newConflicts(conflicts{
		home: w.home, baseline: w.baseline, donor: w.donor, status: p.status, reports: w.reports, log: w.log,
	}))(&err)
	waits := made(newGrants(grants{turns: w.turns, status: p.status, donor: w.donor, repairs: p.repairs}))(&err)
	apply := made(newApplier(applier{
		home: w.home, artifacts: w.fetcher, conflicts: found, witness: p.witness, turns: w.turns, grants: waits, reverts: reverts,
		installer: w.installer, status: p.status, log: w.log,
	}))(&err)
	if err != nil {
		return nil, err
	}
	return newJudge(judge{
		home: w.home, ledger: w.ledger, trust: w.trust, turns: w.turns, status: p.status, applier: apply, reports: w.reports,
	})
}

// chores makes what there is to do between patches.
func (w *workshop) chores(donors donors) (c *chores, err error) {
	p := w.parts
	repair := made(newRepairer(repairer{
		node: w.node, ledger: w.ledger, drift: p.drift, baseline: w.baseline, scanner: p.drift.scanner, donors: donors, artifacts: w.fetcher,
		installer: w.installer, host: p.host, orders: p.repairs, log: w.log,
	}))(&err)
	publish := made(newPublisher(publisher{
		node: w.node, home: w.home, dir: w.dir, js: w.client.JS, trust: w.trust, ledger: w.ledger, baseline: w.baseline, drift: p.drift,
		log: w.log,
	}))(&err)
	files := made(newInbox(inbox{path: w.dir.inbox(), quiet: w.cfg.WatchQuiet, publisher: publish, log: w.log}))(&err)
	if err != nil {
		return nil, err
	}
	return newChores(chores{trust: w.trust, inbox: files, repairer: repair, drift: p.drift, outgoing: publish, donor: w.donor})
}
