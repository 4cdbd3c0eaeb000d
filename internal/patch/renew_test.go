package patch

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is kept is of the time of keeping. What is published is of now, says who wants it, and does the same.
func TestRenewedArtifactDoesTheSame(t *testing.T) {
	t.Parallel()
	artifact, old := build(t, map[string]string{"omflow/a.py": "a", "omflow/deep/b.py": "b"}, Options{
		Author: "srv1", Note: "takes back p1", Reverts: "p1", Deletions: []string{"omflow/c.py"},
		Selection: Selection{Bases: map[string]string{"omflow/a.py": digest("was")}},
	})
	began := time.Now().UTC().Truncate(time.Millisecond)
	var out bytes.Buffer
	m, err := Renew(&out, bytes.NewReader(artifact), trusted, Options{Author: "bob", Note: "lost its dates", Signer: ann})
	require.NoError(t, err)
	require.Equal(t, [2]string{"bob", "lost its dates"}, [2]string{m.Author, m.Note})
	require.False(t, m.Created.Before(began))
	require.NotEqual(t, old.ID, m.ID)
	read, err := Verify(bytes.NewReader(out.Bytes()), DefaultLimit, trusted)
	require.NoError(t, err)
	require.Equal(t, m, read)
	old.ID, old.Created, old.Author, old.Note = m.ID, m.Created, m.Author, m.Note
	require.Equal(t, old, m, "all else is as it was")

	homes := [2]map[string]string{}
	for i, artifact := range [][]byte{artifact, out.Bytes()} {
		home := homeOf(t, map[string]string{"omflow/a.py": "was", "omflow/c.py": "c"})
		_, err := apply(t, home, artifact, DefaultLimit)
		require.NoError(t, err)
		homes[i] = snapshot(t, home.Name())
	}
	require.Equal(t, homes[0], homes[1])
}

// A signature of now answers for what was verified now: nothing is renewed that would not be taken as it is.
func TestWhatCannotBeTrustedIsNotRenewed(t *testing.T) {
	t.Parallel()
	artifact, _ := build(t, map[string]string{"omflow/a.py": strings.Repeat("a", 1000)}, Options{Reverts: "p1"})
	damaged := honest()
	damaged.contents[1] = "other"
	strange := honest()
	strange.signer = eve
	revoked := Trust(trusted).Except(Revocations{"ann": {Key: "ann", Reason: "stolen"}})
	for name, bad := range map[string]struct {
		artifact []byte
		trust    Trust
		o        Options
		says     string
	}{
		"revoked key":  {artifact, revoked, Options{}, "key ann, which signed it, was revoked"},
		"unknown key":  {strange.bytes(t), trusted, Options{}, "eve is unknown"},
		"damaged file": {damaged.bytes(t), trusted, Options{}, "omflow/b.py has sha256"},
		"cut off":      {artifact[:len(artifact)-8], trusted, Options{}, ""},
		"empty":        {nil, trusted, Options{}, ""},
		"long note":    {artifact, trusted, Options{Note: strings.Repeat("n", MaxNoteBytes+1)}, "note, author or version is too long"},
	} {
		bad.o.Signer = ann
		var out bytes.Buffer
		_, err := Renew(&out, bytes.NewReader(bad.artifact), bad.trust, bad.o)
		require.Error(t, err, name)
		require.ErrorContains(t, err, bad.says, name)
		_, err = Verify(bytes.NewReader(out.Bytes()), DefaultLimit, trusted)
		require.Error(t, err, "%s: what was written is of no use", name)
	}
}
