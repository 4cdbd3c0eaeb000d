package testkit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A struct with more fields has more than one role. An embedded struct counts as one.
const mostFields = 12

func TestNoStructHasMoreThanTwelveFields(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	files := token.NewFileSet()
	seen := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			seen++
			fields := 0
			for _, f := range s.Fields.List {
				fields += max(1, len(f.Names))
			}
			where := files.Position(s.Pos())
			name, _ := filepath.Rel(root, where.Filename)
			if fields > mostFields && !slices.Contains(larger, filepath.ToSlash(name)) {
				t.Errorf("%s: a struct of %d fields; %d at most: split its roles, or group what belongs together", where, fields, mostFields)
			}
			return true
		})
		return nil
	}))
	require.Greater(t, seen, 100, "structs were looked at")
}

// larger are files whose structs are not split yet.
var larger = []string{"worker/config.go", "worker/worker.go"}
