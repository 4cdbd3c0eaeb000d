// Package join is the join file: what the hosts of one installation need to trust each other. So far these are the keys that may
// sign patches. See DESIGN.md for the reasons.
package join

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Format is the version of the file's layout. It grows when an older program would misread a newer file.
const Format = 1

// Fields of the file that this version knows. Everything below private is for hosts that publish, and for them alone.
const (
	fieldFormat  = "format"
	fieldKeys    = "patch_keys"
	fieldPrivate = "private"
)

const maxNameBytes = 256

// Key is the public half of a key that may sign patches.
type Key struct {
	ID      string    `json:"id"`   // KeyID of Public
	Name    string    `json:"name"` // for people: who or what holds the other half
	Public  []byte    `json:"public_key"`
	Created time.Time `json:"created"`
}

// private is what a host that verifies does not need.
type private struct {
	Seed []byte `json:"patch_key"` // of the ed25519 key, RFC 8032
}

// File is a join file. It is not changed by several goroutines at once.
type File struct {
	keys    []Key
	signing ed25519.PrivateKey         // nil in a file for hosts that verify
	fields  map[string]json.RawMessage // all of the file: what is not known here is kept as it is
}

// New makes a file with one new key, and its private half.
func New(name string, now time.Time) (*File, error) {
	public, signing, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	keys := []Key{{ID: KeyID(public), Name: name, Public: public, Created: now.UTC().Truncate(time.Second)}}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	f := &File{keys: keys, signing: signing, fields: map[string]json.RawMessage{}}
	return f, errors.Join(f.set(fieldFormat, Format), f.set(fieldKeys, keys), f.set(fieldPrivate, private{Seed: signing.Seed()}))
}

// KeyID names a public key: the first 16 hexadecimal digits of its SHA-256.
func KeyID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// Keys are those that may sign patches, in the order of the file.
func (f *File) Keys() []Key { return slices.Clone(f.keys) }

// Key returns the key with that name.
func (f *File) Key(id string) (Key, bool) {
	i := slices.IndexFunc(f.keys, func(k Key) bool { return k.ID == id })
	if i < 0 {
		return Key{}, false
	}
	return f.keys[i], true
}

// Add adds the keys of another file that this one does not have, with all that is said of them there, and returns how many these were.
func (f *File) Add(other *File) (added int, err error) {
	var own, theirs []json.RawMessage // not []Key: an entry may have fields that are not known here
	if err := errors.Join(json.Unmarshal(f.fields[fieldKeys], &own), json.Unmarshal(other.fields[fieldKeys], &theirs)); err != nil {
		return 0, fmt.Errorf("%s: %w", fieldKeys, err)
	}
	keys := f.Keys()
	for i, k := range other.keys {
		if _, known := f.Key(k.ID); !known {
			own, keys = append(own, theirs[i]), append(keys, k)
			added++
		}
	}
	if err := f.set(fieldKeys, own); err != nil {
		return 0, err
	}
	f.keys = keys
	return added, nil
}

// Public is the same file for hosts that only verify: without everything that is private.
func (f *File) Public() *File {
	fields := make(map[string]json.RawMessage, len(f.fields))
	for name, value := range f.fields {
		if name != fieldPrivate {
			fields[name] = value
		}
	}
	return &File{keys: f.Keys(), fields: fields}
}

// Verify says why a signature over message does not count, or returns nil: one of the keys has made it.
func (f *File) Verify(keyID string, message, signature []byte) error {
	key, known := f.Key(keyID)
	switch {
	case !known:
		return fmt.Errorf("key %s, which signed it, is not in the join file of this host", keyID)
	case !ed25519.Verify(key.Public, message, signature):
		return fmt.Errorf("its signature is not that of key %s (%s): it was changed after it was signed", keyID, key.Name)
	}
	return nil
}

// ErrNoPrivateKey is returned by Signer for a file without a private key.
var ErrNoPrivateKey = errors.New("it has no private key, so this host cannot sign patches")

// Signer signs with the private key of a file.
type Signer struct {
	id  string
	key ed25519.PrivateKey
}

// Signer returns ErrNoPrivateKey if the file has no private key.
func (f *File) Signer() (Signer, error) {
	if f.signing == nil {
		return Signer{}, ErrNoPrivateKey
	}
	return Signer{id: KeyID(f.signing.Public().(ed25519.PublicKey)), key: f.signing}, nil
}

// KeyID names the key.
func (s Signer) KeyID() string { return s.id }

// Sign returns an ed25519 signature over message.
func (s Signer) Sign(message []byte) []byte { return ed25519.Sign(s.key, message) }

func (f *File) set(field string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	f.fields[field] = data
	return nil
}

func (f *File) encode() ([]byte, error) {
	data, err := json.MarshalIndent(f.fields, "", "  ")
	return append(data, '\n'), err
}

// decode refuses what it does not understand, and what does not fit together.
func decode(data []byte) (*File, error) {
	f := &File{}
	if err := json.Unmarshal(data, &f.fields); err != nil || f.fields == nil {
		return nil, errors.New("it is not a JSON object")
	}
	var format int
	if err := json.Unmarshal(f.fields[fieldFormat], &format); err != nil || format < 1 {
		return nil, fmt.Errorf("it has no %q; it was not made by `omflow-booster join`", fieldFormat)
	}
	if format > Format {
		return nil, fmt.Errorf("its format is %d and this omflow-booster knows %d; update omflow-booster", format, Format)
	}
	if err := json.Unmarshal(f.fields[fieldKeys], &f.keys); err != nil {
		return nil, fmt.Errorf("its %q cannot be read", fieldKeys)
	}
	if err := checkKeys(f.keys); err != nil {
		return nil, err
	}
	raw, ok := f.fields[fieldPrivate]
	if !ok {
		return f, nil
	}
	var own private
	if err := json.Unmarshal(raw, &own); err != nil || len(own.Seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("its %q cannot be read", fieldPrivate) // without the cause: that might quote it
	}
	f.signing = ed25519.NewKeyFromSeed(own.Seed)
	public := f.signing.Public().(ed25519.PublicKey)
	if key, known := f.Key(KeyID(public)); !known || !bytes.Equal(key.Public, public) {
		return nil, errors.New("its private key belongs to none of its public keys")
	}
	return f, nil
}

func checkKeys(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("it names no key")
	}
	seen := make(map[string]bool)
	for i, k := range keys {
		switch {
		case len(k.Public) != ed25519.PublicKeySize:
			return fmt.Errorf("its key %d has no public key of %d bytes", i+1, ed25519.PublicKeySize)
		case k.ID != KeyID(k.Public):
			return fmt.Errorf("its key %d is called %q and should be %s", i+1, k.ID, KeyID(k.Public))
		case seen[k.ID]:
			return fmt.Errorf("it has key %s twice", k.ID)
		case len(k.Name) > maxNameBytes:
			return fmt.Errorf("the name of key %s is longer than %d bytes", k.ID, maxNameBytes)
		}
		seen[k.ID] = true
	}
	return nil
}
