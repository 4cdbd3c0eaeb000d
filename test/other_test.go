//go:build !linux

package test

import "testing"

func TestScenarios(t *testing.T) {
	t.Skip("the scenarios find and freeze processes through /proc: run them on Linux")
}
