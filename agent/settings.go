package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/crypto/nacl/box"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// omflow/settings.py has the password of the database. It goes from one server to another only if the donor has an order for it
// (AGENT_PROVISION=settings), the one that asks shows that its host signs, and sealed to a key that this one has made for the purpose:
// nothing of it is ever stored on the bus.

// errNoSettings keeps a new server waiting that has the files of nobody's settings.
var errNoSettings = errors.New(patch.SettingsFile + " is missing: put that of this server into OMFLOW_HOME. " +
	"Another server gives its own only with AGENT_PROVISION=settings, to a host whose join file signs")

const sealTimeout = 5 * time.Second // for looking up who is trusted

// What is signed begins with words of its own, so that no signature can stand for one of another kind.
const (
	askSettings  = "omflow-booster: settings asked for, 1\n"
	giveSettings = "omflow-booster: settings given, 1\n"
)

// settingsFile is what is sealed, as JSON.
type settingsFile struct {
	Content []byte     `json:"content"`
	Mode    patch.Mode `json:"mode"`
}

// settingsAsker holds the key that the answer is sealed to.
type settingsAsker struct {
	public, private *[32]byte
}

func newSettingsAsker() (a settingsAsker, err error) {
	a.public, a.private, err = box.GenerateKey(rand.Reader)
	return a, err
}

// request asks one server.
func (a settingsAsker) request(donor string, signer patch.Signer) *bus.SettingsRequest {
	return &bus.SettingsRequest{
		Public: a.public[:], Key: signer.KeyID(), Signature: signer.Sign(askMessage(donor, a.public[:])),
	}
}

func askMessage(donor string, public []byte) []byte {
	return fmt.Appendf(nil, "%s%s\n%x", askSettings, donor, public)
}

func giveMessage(public, sealed []byte) []byte {
	return fmt.Appendf(nil, "%s%x\n%x", giveSettings, public, sealed)
}

// open returns what was sealed to this key by a host that is trusted.
func (a settingsAsker) open(s *bus.SealedSettings, rules patch.Trust) (file settingsFile, err error) {
	if err := rules(s.Key, giveMessage(a.public[:], s.Box), s.Signature); err != nil {
		return file, fmt.Errorf("%s that is offered: %w", patch.SettingsFile, err)
	}
	plain, ok := box.OpenAnonymous(nil, s.Box, a.public, a.private)
	if !ok {
		return file, fmt.Errorf("%s that is offered is not sealed to this server", patch.SettingsFile)
	}
	return file, json.Unmarshal(plain, &file)
}

// sealer gives the settings of this server to others. Any goroutine may use it.
type sealer struct {
	node  string
	given bool // AGENT_PROVISION=settings
	home  *homeDir
	js    jetstream.JetStream
	trust *trust
	log   zerolog.Logger
}

func newSealer(s sealer) (*sealer, error) { return complete(&s) }

// seal gives the settings to a server that shows that its host signs.
func (s *sealer) seal(asked *bus.SettingsRequest) (*bus.SealedSettings, error) {
	if !s.given {
		return nil, errors.New("this server does not give its settings (AGENT_PROVISION=settings)")
	}
	if len(asked.Public) != 32 {
		return nil, errors.New("the settings are asked for without a key to seal them to")
	}
	ctx, cancel := context.WithTimeout(context.Background(), sealTimeout)
	defer cancel()
	rules, err := s.trust.rulesNow(ctx, s.js)
	if err != nil {
		return nil, err
	}
	if err := rules(asked.Key, askMessage(s.node, asked.Public), asked.Signature); err != nil {
		return nil, fmt.Errorf("who asks for the settings is not trusted: %w", err)
	}
	signer, err := s.trust.signer()
	if err != nil {
		return nil, err
	}
	info, err := s.home.Stat(patch.SettingsFile)
	if err != nil {
		return nil, err
	}
	content, err := s.home.ReadFile(patch.SettingsFile)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(settingsFile{Content: content, Mode: patch.Mode(info.Mode().Perm())})
	if err != nil {
		return nil, err
	}
	sealed, err := box.SealAnonymous(nil, plain, (*[32]byte)(asked.Public), rand.Reader)
	if err != nil {
		return nil, err
	}
	s.log.Warn().Str("key", asked.Key).Msg("settings of this server given to a new one, sealed to its key")
	return &bus.SealedSettings{Box: sealed, Key: signer.KeyID(), Signature: signer.Sign(giveMessage(asked.Public, sealed))}, nil
}
