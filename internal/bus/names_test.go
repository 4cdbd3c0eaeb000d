package bus_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// nameOnTheBus matches text that is a name on the bus, or begins one.
var nameOnTheBus = regexp.MustCompile(
	`\$(KV|O|JS|SYS)\b` + // the server's subjects
		`|^(KV|OBJ)_` + // streams of buckets and of object stores
		`|^(WORK|ROLLOUT|CONTROL)$` + // the others are headings of tables, too
		`|^(Work|Dead)-[A-Z]` + // headers
		`|^(audit|booster|dead|node|patch|rollout|work)\.([a-z*>-]+(\.[a-z*>-]+)*\.?)?$` + // subjects
		`|^(agent|worker)\.([a-z*>-]+(\.[a-z*>-]+)*\.?)?$` + // of micro services
		`|^(cordon|lock|plan|revoked|server)\.$`) // keys

// fileName matches names of files, which look like subjects.
var fileName = regexp.MustCompile(`\.(db|env|exe|json|lock|log|pid|service|sock|zst)$`)

// Every name on the bus is in this package, so that one place says what there is, and a name is changed in one place.
func TestNamesOnTheBusAreHereAlone(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."), d.IsDir() && path == filepath.Join(root, "internal", "bus"):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files++
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for place, text := range namesIn(t, path, source) {
			t.Errorf("%s: %q is a name on the bus: give it a name in internal/bus and use that", place, text)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 100, "the whole repository was looked at")
}

func TestNamesOnTheBusAreFound(t *testing.T) {
	t.Parallel()
	for text, found := range map[string]bool{
		"$KV.CONTROL.": true, "$JS.API.META.RESCUE": true, "booster.founding": true, "audit.": true, "patch.announce.*": true, "KV_": true,
		"dead.>":  true,
		"Work-Id": true, "WORK": true, "lock.": true, "agent.home": true,
		"agent.lock": false, "booster.json": false, "patch.tar.zst": false, "node. It": false, "work": false, "worker is gone": false,
	} {
		source := "package p\n\nvar name = " + strconv.Quote(text) + "\n"
		require.Equal(t, found, len(namesIn(t, "p.go", []byte(source))) == 1, text)
	}
}

// namesIn returns the literals of a Go file that are names on the bus, by place.
func namesIn(t *testing.T, path string, source []byte) map[string]string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
	require.NoError(t, err)
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if _, ok := n.(*ast.ImportSpec); ok {
			return false
		}
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		if nameOnTheBus.MatchString(text) && !fileName.MatchString(text) {
			found[set.Position(literal.Pos()).String()] = text
		}
		return true
	})
	return found
}
