package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errInvalid = errors.New("refused")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errInvalid, fmt.Errorf(format, args...))
}

func written(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out)
	require.NoError(t, err)
	for i, content := range files {
		require.NoError(t, w.Begin(fmt.Sprint(i), 0o640, int64(len(content)), time.Unix(1, 2)))
		_, err = io.WriteString(w, content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// read reads an archive to its end, with at most so many bytes allowed.
func read(t *testing.T, in io.Reader, allowed int64) (files []string, err error) {
	t.Helper()
	r, err := NewReader(invalid)
	require.NoError(t, err)
	defer r.Close()
	if err := r.Reset(in); err != nil {
		return nil, err
	}
	r.Allow(allowed)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, r.End()
		}
		if err != nil {
			return files, err
		}
		require.Equal(t, fmt.Sprint(len(files)), h.Name)
		require.EqualValues(t, 0o640, h.Mode)
		content, err := io.ReadAll(r)
		if err != nil {
			return files, err
		}
		files = append(files, string(content))
	}
}

func TestArchiveIsReadBack(t *testing.T) {
	t.Parallel()
	want := []string{"one", "", strings.Repeat("three", 1000)}
	got, err := read(t, bytes.NewReader(written(t, want...)), 1<<20)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// A cut is the fault of the archive, a reader that fails is not, wherever it happens.
func TestWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	good, medium := written(t, "one", "two"), errors.New("disk on fire")
	for at := 1; at < len(good); at++ { // nothing at all is an archive without entries
		_, err := read(t, bytes.NewReader(good[:at]), 1<<20)
		require.ErrorIs(t, err, errInvalid, "cut at %d", at)
		_, err = read(t, io.MultiReader(bytes.NewReader(good[:at]), failing{medium}), 1<<20)
		require.ErrorIs(t, err, medium, "failed at %d", at)
		require.NotErrorIs(t, err, errInvalid)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

func TestMoreThanAllowed(t *testing.T) {
	t.Parallel()
	bomb := written(t, strings.Repeat("0", 32<<20))
	require.Less(t, len(bomb), 64<<10)
	_, err := read(t, bytes.NewReader(bomb), 1<<20)
	require.ErrorIs(t, err, errInvalid)
	require.ErrorContains(t, err, "more data")
}

func TestEntryThatNobodyNamed(t *testing.T) {
	t.Parallel()
	r, err := NewReader(invalid)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Reset(bytes.NewReader(written(t, "one", "two"))))
	_, err = r.Next()
	require.NoError(t, err)
	require.ErrorContains(t, r.End(), `"1", which its manifest does not name`)
}
