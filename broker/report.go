package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// reporter says what this Booster is and how it is, in its heartbeat and to those who ask.
type reporter struct {
	cfg     Config
	started time.Time
	store   *store
	limit   int64 // bytes that the streams may fill
	cluster *cluster
	lease   *activeLease
	keeper  *keeper
	member  *membership // nil on a single Booster
}

// describe is the Booster's heartbeat.
func (r *reporter) describe() bus.Node {
	host, _ := os.Hostname()
	free, _ := freeSpace(r.store.dir) // 0 is not known
	var notes []string
	if said := r.keeper.notes.Load(); said != nil && r.lease.active() {
		notes = *said
	}
	return bus.Node{
		Role: bus.ServiceBooster, Name: r.store.bootState().Name, Host: host, PID: os.Getpid(), Version: buildinfo.Version(), Started: r.started,
		Booster: &bus.BoosterState{
			Mode: r.store.bootState().Mode, Duty: r.lease.duty(), Address: r.cfg.address(), Sync: r.cfg.sync().String(),
			StoreBytes: size(filepath.Join(r.store.dir, storeName)), StoreLimit: r.limit, Takeover: r.takeover(),
			FreeBytes: free, Hosts: ownHosts(), Notes: notes,
		},
	}
}

// takeover says whether the other Booster could take over now.
func (r *reporter) takeover() string {
	if r.member == nil {
		return "one Booster: no standby, no automatic takeover"
	}
	return r.member.takeover()
}

// clusterState is how this Booster sees its cluster now.
func (r *reporter) clusterState() bus.ClusterState {
	s := bus.ClusterState{Node: r.describe(), Majority: true, Members: []bus.Member{}}
	s.At = time.Now()
	if r.member != nil {
		s.Members, s.Majority, s.Lost.Time = r.member.contacts.state()
	}
	return s
}

// answerCluster makes ready to answer bus.SubjectCluster, before there are streams and when nothing else can be answered.
// answer does it until ctx ends.
func (r *reporter) answerCluster() (answer func(ctx context.Context), err error) {
	sub, err := r.cluster.node.nc.SubscribeSync(bus.SubjectCluster)
	if err == nil {
		err = r.cluster.node.nc.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("answer %s: %w", bus.SubjectCluster, err)
	}
	return func(ctx context.Context) {
		defer func() { _ = sub.Unsubscribe() }()
		for {
			m, err := sub.NextMsgWithContext(ctx)
			switch {
			case err == nil:
				_ = m.Respond(encode(r.clusterState()))
			case ctx.Err() != nil, !sub.IsValid():
				return
			}
		}
	}, nil
}

// offer answers `nats micro info booster`.
func (r *reporter) offer() (micro.Service, error) {
	s, err := micro.AddService(r.cluster.node.nc, micro.Config{
		Name: bus.ServiceBooster, Version: bus.ServiceVersion, Description: "carries queued steps and patches",
		Metadata: map[string]string{"name": r.store.bootState().Name, "version": buildinfo.Version(), "mode": r.store.bootState().Mode},
	})
	if err != nil {
		return nil, fmt.Errorf("offer service %s: %w", bus.ServiceBooster, err)
	}
	if r.member != nil {
		err = errors.Join(
			s.AddEndpoint("step-down", micro.HandlerFunc(r.member.stepDown), micro.WithEndpointSubject(bus.StepDownSubject(r.cluster.name))),
			s.AddEndpoint("state", micro.HandlerFunc(func(req micro.Request) { respond(req, r.describe()) }),
				micro.WithEndpointSubject(bus.StateSubject(r.cluster.name))),
			s.AddEndpoint("leave", micro.HandlerFunc(r.member.departure.answer), micro.WithEndpointSubject(bus.LeaveSubject(r.cluster.name))))
	}
	return s, err
}
