package document

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

type book struct {
	Title string         `json:"title"`
	Pages map[string]int `json:"pages"`
	Notes []string       `json:"notes"`
}

func TestWhatIsNotThereIsTheZeroValue(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "book.json")
	d, err := Open[book](path)
	require.NoError(t, err)
	require.False(t, d.Saved())
	require.Empty(t, d.Get())
	require.NoFileExists(t, path)

	require.NoError(t, d.Change(func(b *book) { b.Title = "one" }))
	require.True(t, d.Saved())
	again, err := Open[book](path)
	require.NoError(t, err)
	require.True(t, again.Saved())
	require.Equal(t, "one", again.Get().Title)
}

func TestADamagedFileIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "book.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"title":`), 0o600))
	_, err := Open[book](path)
	require.ErrorContains(t, err, path)
}

// A change that cannot be saved must not show, neither at once nor with the next one that can.
func TestAChangeThatIsNotSavedIsNone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "book.json")
	d, err := Open[book](path)
	require.NoError(t, err)
	was := book{Title: "one", Pages: map[string]int{"a": 1, "b": 2}, Notes: []string{"x", "y"}}
	require.NoError(t, d.Change(func(b *book) { *b = was }))
	reader := d.Get()

	aside := path + ".aside"
	require.NoError(t, os.Rename(path, aside))
	require.NoError(t, os.Mkdir(path, 0o700)) // no file can take this place
	require.Error(t, d.Change(func(b *book) {
		b.Title, b.Pages["a"], b.Notes[0] = "two", 7, "z"
		delete(b.Pages, "b")
	}))
	require.Equal(t, was, d.Get())
	require.Equal(t, was, reader, "an edit reached a reader's map or slice")

	require.NoError(t, os.Remove(path))
	require.NoError(t, d.Change(func(b *book) { b.Notes = append(b.Notes, "w") }))
	again, err := Open[book](path)
	require.NoError(t, err)
	require.Equal(t, book{Title: "one", Pages: map[string]int{"a": 1, "b": 2}, Notes: []string{"x", "y", "w"}}, again.Get())
}

func TestNoChangeIsLostAmongMany(t *testing.T) {
	t.Parallel()
	d, err := Open[book](filepath.Join(t.TempDir(), "book.json"))
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			require.NoError(t, d.Change(func(b *book) { b.Notes = append(b.Notes, "n") }))
			_ = d.Get().Notes
		})
	}
	all.Wait()
	require.Len(t, d.Get().Notes, 20)
}
