package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// errNoKey keeps a node without a join file from taking any patch.
var errNoKey = errors.New("no key to trust: set " + join.Variable)

// trust says whose patches this server takes: keys come from the join file, and revocations from the bus. What was revoked once stays
// revoked here, whatever the bus says later. It belongs to the updater's goroutine.
type trust struct {
	joinFile string
	dir      *dataDir
	revoked  patch.Revocations
	log      zerolog.Logger
}

func openTrust(joinFile string, dir *dataDir, log zerolog.Logger) (*trust, error) {
	t := &trust{joinFile: joinFile, dir: dir, revoked: patch.Revocations{}, log: log}
	return t, dir.load(revokedFile, &t.revoked)
}

// possible tells whether this node can trust anybody.
func (t *trust) possible() error {
	if t.joinFile == "" {
		return errNoKey
	}
	return nil
}

// learn remembers what was revoked on the bus, and brings back there what a rebuilt Booster has forgotten: other nodes may have been
// away when it was revoked.
func (t *trust) learn(ctx context.Context, js jetstream.JetStream) error {
	there, err := patch.Revoked(ctx, js)
	if err != nil {
		return fmt.Errorf("look for revoked keys: %w", err)
	}
	all := maps.Clone(there)
	maps.Copy(all, t.revoked)
	if len(all) > len(t.revoked) {
		if err := t.dir.save(revokedFile, all); err != nil {
			return err
		}
		for id, r := range all {
			if t.revoked.Check(id) == nil {
				t.log.Warn().Str("key", id).Str("by", r.By).Str("reason", r.Reason).Msg("key revoked; nothing that it signed is applied any more")
			}
		}
		t.revoked = all
	}
	for id, r := range t.revoked {
		if there.Check(id) != nil {
			continue
		}
		if err := patch.Revoke(ctx, js, r); err != nil {
			return err
		}
	}
	return nil
}

// rules is what holds now. The join file is read each time, so that a new key needs no restart.
func (t *trust) rules() (patch.Trust, error) {
	keys, err := join.Load(t.joinFile)
	if err != nil {
		return nil, err
	}
	return patch.Trust(keys.Verify).Except(t.revoked), nil
}

// signer signs what is published from here. It fails with errNoKey or join.ErrNoPrivateKey where that is not possible.
func (t *trust) signer() (patch.Signer, error) {
	if err := t.possible(); err != nil {
		return nil, err
	}
	keys, err := join.Load(t.joinFile)
	if err != nil {
		return nil, err
	}
	return keys.Signer()
}

// rulesNow is what holds now, for others than the updater's goroutine.
func (t *trust) rulesNow(ctx context.Context, js jetstream.JetStream) (patch.Trust, error) {
	keys, err := join.Load(t.joinFile)
	if err != nil {
		return nil, err
	}
	revoked, err := patch.Revoked(ctx, js)
	if err != nil {
		return nil, err
	}
	return patch.Trust(keys.Verify).Except(revoked), nil
}

// recheck looks once more whether a key that has been verified was revoked since.
func (t *trust) recheck(ctx context.Context, js jetstream.JetStream, keyID string) error {
	if err := t.learn(ctx, js); err != nil {
		return err
	}
	if err := t.revoked.Check(keyID); err != nil {
		return fmt.Errorf("%w: %w", patch.ErrInvalid, err)
	}
	return nil
}
