package patch

import (
	"encoding/json"

	"github.com/omflow-booster/omflow-booster/internal/bundle"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// signatureEntry follows the manifest in an artifact.
const signatureEntry = "manifest.sig"

const maxSignatureBytes = 1024

// Signer signs an artifact that is built.
type Signer interface {
	KeyID() string               // names the key
	Sign(manifest []byte) []byte // ed25519 over the manifest as it stands in the artifact
}

// Trust says why an artifact is not to be taken, or returns nil: the key with that id has made the signature over the manifest, and
// its holder may change servers.
type Trust func(keyID string, manifest, signature []byte) error

// Except narrows trust: what a revoked key has signed, at whatever time, is not taken.
func (t Trust) Except(revoked Revocations) Trust {
	return func(keyID string, manifest, signature []byte) error {
		if err := revoked.Check(keyID); err != nil {
			return err
		}
		return t(keyID, manifest, signature)
	}
}

// signature is the entry as it stands in an artifact. It covers the exact bytes of the manifest, which has the digest of every file.
type signature struct {
	Key       string `json:"key"`
	Signature []byte `json:"ed25519"`
}

func readSignature(archive *bundle.Reader) (signature, error) {
	var s signature
	data, err := readEntry(archive, signatureEntry, maxSignatureBytes)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil || s.Key != bus.Token(s.Key) {
		return s, invalid("its signature cannot be read")
	}
	return s, nil
}
