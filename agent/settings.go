package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/crypto/nacl/box"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// omflow/settings.py has the password of the database. It goes from one server to another only if the giver is told to (AGENT_PROVISION=settings), the one
// that asks shows that its host signs, and sealed to a key that this one has made for the purpose: nothing of it is ever stored on the bus.

// errNoSettings keeps a new server waiting that has the files of nobody's settings.
var errNoSettings = errors.New(patch.SettingsFile + " is missing: put that of this server into OMFLOW_HOME. Another server gives its own only with AGENT_PROVISION=settings, " +
	"to a host whose join file signs")

const sealLimit = 5 * time.Second // for looking up who is trusted

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
func (a settingsAsker) request(giver string, signer patch.Signer) *bus.SettingsRequest {
	return &bus.SettingsRequest{
		Public: a.public[:], Key: signer.KeyID(), Signature: signer.Sign(askMessage(giver, a.public[:])),
	}
}

func askMessage(giver string, public []byte) []byte {
	return fmt.Appendf(nil, "%s%s\n%x", askSettings, giver, public)
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

// sealSettings gives the settings of this server to one that shows that its host signs. It does not touch what the follower's goroutine uses.
func (f *follower) sealSettings(asked *bus.SettingsRequest) (*bus.SealedSettings, error) {
	if f.cfg.Provision != provisionSettings {
		return nil, errors.New("this server does not give its settings (AGENT_PROVISION=settings)")
	}
	if len(asked.Public) != 32 {
		return nil, errors.New("the settings are asked for without a key to seal them to")
	}
	ctx, cancel := context.WithTimeout(context.Background(), sealLimit)
	defer cancel()
	rules, err := f.trust.rulesNow(ctx, f.client.JS)
	if err != nil {
		return nil, err
	}
	if err := rules(asked.Key, askMessage(f.node, asked.Public), asked.Signature); err != nil {
		return nil, fmt.Errorf("who asks for the settings is not trusted: %w", err)
	}
	signer, err := f.trust.signer()
	if err != nil {
		return nil, err
	}
	info, err := f.home.Stat(patch.SettingsFile)
	if err != nil {
		return nil, err
	}
	content, err := f.home.ReadFile(patch.SettingsFile)
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
	f.log.Warn().Str("key", asked.Key).Msg("settings of this server given to a new one, sealed to its key")
	return &bus.SealedSettings{Box: sealed, Key: signer.KeyID(), Signature: signer.Sign(giveMessage(asked.Public, sealed))}, nil
}

// needsSettings tells whether this server has none of its own.
func (f *follower) needsSettings() (bool, error) {
	_, err := f.home.Stat(patch.SettingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// takeSettings writes what another server has given.
func (f *follower) takeSettings(asker settingsAsker, gift bus.HomeGift) error {
	if gift.Settings == nil {
		return fmt.Errorf("%w (%s)", errNoSettings, gift.SettingsError)
	}
	rules, err := f.trust.rules()
	if err != nil {
		return err
	}
	file, err := asker.open(gift.Settings, rules)
	if err != nil {
		return err
	}
	return patch.WriteLocal(f.home, patch.SettingsFile, file.Content, file.Mode)
}
