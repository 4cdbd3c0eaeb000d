package agent

import (
	"fmt"

	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// releaser takes the order to publish what is held back.
type releaser struct {
	trust *trust
	drift interface {
		release(digest string) error // takes an operator's word that the changes are meant
	}
	wake chan<- struct{}
	log  zerolog.Logger
}

func newReleaser(r releaser) (*releaser, error) { return complete(&r) }

func (r *releaser) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointRelease, micro.HandlerFunc(func(q micro.Request) {
		err := r.order(string(q.Data()))
		if err != nil {
			_ = q.Error("500", err.Error(), nil)
			return
		}
		_ = q.Respond(nil)
	}), micro.WithEndpointSubject(bus.EndpointRelease+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

func (r *releaser) order(digest string) error {
	if _, err := r.trust.signer(); err != nil {
		return fmt.Errorf("this server cannot sign a patch: %w", err)
	}
	if err := r.drift.release(digest); err != nil {
		return err
	}
	r.log.Warn().Str("digest", digest).Msg("changes that were held back are published, by order of an operator")
	wake(r.wake)
	return nil
}
