package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkScan is what a home of 50,000 files costs that has not changed.
func BenchmarkScan(b *testing.B) {
	dir := b.TempDir()
	for i := range 50_000 {
		name := filepath.Join(dir, fmt.Sprintf("app%d/lib%d/module%d.py", i/1000, i/50, i))
		if i%50 == 0 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	s := NewScanner(root, Ignore{})
	for {
		if _, err := s.Scan(b.Context(), 0); err != nil {
			b.Fatal(err)
		}
		settled := true
		for _, f := range s.seen {
			settled = settled && f.read.Sub(f.Altered) > settles
		}
		if settled {
			break
		}
	}
	for b.Loop() {
		if _, err := s.Scan(b.Context(), 0); err != nil {
			b.Fatal(err)
		}
	}
}
