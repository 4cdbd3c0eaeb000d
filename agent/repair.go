package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// repairer makes this server like the others again.
type repairer struct {
	node      string
	ledger    *ledger
	drift     nowLooker
	baseline  digester
	scanner   *tree.Scanner
	donors    donors
	artifacts artifacts
	installer *installer
	host      stopper
	orders    *repairOrders
	log       zerolog.Logger
}

// What the repairer needs of others.
type (
	nowLooker interface {
		lookNow(ctx context.Context) (changed bool, err error) // compares the home with its baseline, whatever it costs
	}
	stopper interface {
		stopAll() error // ends worker and server
	}
	digester interface {
		digest() string // that of the files as they should be
	}
)

func newRepairer(r repairer) (*repairer, error) { return complete(&r) }

// carryOut carries out the order of an operator, if there is one.
func (r *repairer) carryOut(ctx context.Context) error {
	if !r.orders.take() {
		return nil
	}
	err := r.repair(ctx)
	r.orders.end(err)
	return err
}

// repair makes this server like the others: every file that was changed here is as it should be again. Their content comes from a
// server whose baseline is the same. Where nothing was changed here, or no such server is there, it is what most of the others have
// that are on the same patches.
func (r *repairer) repair(ctx context.Context) error {
	changed, err := r.drift.lookNow(ctx)
	if err != nil {
		return err
	}
	offer, err := r.example(ctx, changed)
	if err != nil || offer.Node == "" {
		return err
	}
	a, _, err := r.donors.transfer(ctx, offer, bus.HomeRequest{})
	if err != nil {
		return fmt.Errorf("files of %s: %w", offer.Node, err)
	}
	if err := r.artifacts.fetch(ctx, a); err != nil {
		return err
	}
	m, _, err := r.artifacts.verify(a, true)
	if err != nil {
		return err
	}
	more, err := r.notIn(ctx, m)
	if err != nil {
		return err
	}
	a.Seq = r.ledger.read().Seq
	r.log.Warn().Str("from", offer.Node).Int("more", len(more)).
		Msg("making this server like another one, by order of an operator; stopping worker and server")
	if err := r.installer.stage(a, staging{started: time.Now(), remove: more, keep: []string{patch.SettingsFile}}); err != nil {
		return err
	}
	if err := r.host.stopAll(); err != nil {
		return errors.Join(err, r.installer.rollBackWhole(ctx))
	}
	if err := r.installer.switchOver(a); err != nil {
		return errors.Join(err, r.installer.rollBackWhole(ctx))
	}
	return r.installer.activate(ctx)
}

// example is the server that this one is to be like. It has no name if this one is right already.
func (r *repairer) example(ctx context.Context, changed bool) (example bus.HomeOffer, err error) {
	baseline, seq := r.baseline.digest(), r.ledger.read().Seq
	votes, offers := map[string]int{baseline: 1}, map[string]bus.HomeOffer{}
	_, err = r.donors.bestOffer(ctx, func(o bus.HomeOffer) bool {
		if o.Node == r.node || o.Seq != seq && o.Baseline != baseline {
			return false
		}
		votes[o.Baseline]++
		offers[o.Baseline] = o
		return true
	})
	if err != nil && !errors.Is(err, errNoHome) {
		return example, err
	}
	if same, ok := offers[baseline]; ok && changed {
		return same, nil
	}
	most, alone := baseline, true
	for digest := range offers {
		switch n := votes[digest]; {
		case digest == baseline, n < votes[most]:
		case n == votes[most] && most != baseline:
			alone = false
		default: // that of this server yields to an equal number of others: the operator has said that it is wrong
			most, alone = digest, true
		}
	}
	switch {
	case !alone:
		return example, errors.New("the other servers differ among themselves: " +
			"bring one version to all with `omflow-booster patch publish --exact`")
	case most == baseline && changed:
		return example, errors.New("no other server has these files as they should be: " +
			"one has to run that is on the same patches, has no drift, and whose join file signs")
	case most == baseline:
		return example, nil
	}
	return offers[most], nil
}

// notIn are the files of this home that an artifact of a whole home does not have.
func (r *repairer) notIn(ctx context.Context, m patch.Manifest) (more []string, err error) {
	now, err := r.scanner.Scan(ctx, 0)
	if err != nil {
		return nil, err
	}
	for _, file := range m.Files {
		delete(now.Files, file.Path)
	}
	return now.Files.Names(), nil
}
