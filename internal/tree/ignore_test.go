package tree

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Patterns mean what they mean to git.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		patterns []string
		no       []string // not part of the tree
		yes      []string
	}{
		{[]string{"*.cache"}, []string{"a.cache", "deep/down/a.cache"}, []string{"a.cached", "x.cache.py"}},
		{[]string{"static/**"}, []string{"static/a", "static/a/b/c"}, []string{"omflow/static/a"}},
		{[]string{"**/made/*.js"}, []string{"made/a.js", "x/y/made/a.js"}, []string{"made/x/a.js"}},
		{[]string{"a/**/z"}, []string{"a/z", "a/b/z", "a/b/c/z"}, []string{"a/b/zz"}},
		{[]string{"made/"}, []string{"made/a", "x/made/a/b"}, []string{"made"}},
		{[]string{"./top.txt"}, []string{"top.txt"}, []string{"x/top.txt"}},
		{[]string{"report-[0-9]?.txt"}, []string{"x/report-12.txt"}, []string{"report-ab.txt", "report-1/.txt"}},
		{[]string{"*.txt", "!keep.txt"}, []string{"a.txt"}, []string{"keep.txt", "x/keep.txt"}},
		{[]string{"!keep.txt", "*.txt"}, []string{"a.txt", "keep.txt"}, nil},
		{[]string{"!audit.log"}, []string{"a.log"}, []string{"audit.log"}},
		{[]string{"!settings.py", "!omflow/settings.py", "!.booster-*"}, []string{"omflow/settings.py", ".booster-1-0.new"}, nil},
		// What Django and OMFLOW make in their home.
		{
			nil,
			[]string{
				"tmpab12cd34.upload.pdf", "tmpab12cd34.upload", "db.omflow", "db.omflow-journal", "tmp.py", "sessions/x",
				"sessionid0123456789abcdef0123456789abcdef", "server.log.1", "x/y.sqlite3",
			},
			[]string{"x/tmp.py", "tmpl.py", "django/contrib/sessions/x.py", "sessionid.py", "upload.py", "static/app.js", "core.py"},
		},
	} {
		i, err := NewIgnore(c.patterns)
		require.NoError(t, err)
		for _, name := range c.no {
			require.True(t, i.MatchPath(name), fmt.Sprint(c.patterns, name))
		}
		for _, name := range c.yes {
			require.False(t, i.MatchPath(name), fmt.Sprint(c.patterns, name))
		}
	}
}

func TestPatternThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"[", "/etc", "/", "!", "../x", "x/../y", "a//b", `static\made`, "x/."} {
		_, err := NewIgnore([]string{bad})
		require.ErrorContains(t, err, fmt.Sprintf("%q", bad))
	}
}
