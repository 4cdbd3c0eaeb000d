package work

import (
	"encoding/json"
	"testing"
)

func TestSame(t *testing.T) {
	t.Parallel()
	one := Item{
		Row: 7, QueueID: "f1", Name: "FormFlow", ModuleName: "m", MethodName: "main",
		InputParam: json.RawMessage(`{"a":"中","n":12345678901234567890}`),
	}
	for name, c := range map[string]struct {
		change func(*Item)
		same   bool
	}{
		"itself":           {func(*Item) {}, true},
		"in a string":      {func(it *Item) { it.InputParam = json.RawMessage(`"{\"a\": \"\\u4e2d\", \"n\": 12345678901234567890}"`) }, true},
		"other order":      {func(it *Item) { it.InputParam = json.RawMessage(`{"n":12345678901234567890,"a":"中"}`) }, true},
		"other row number": {func(it *Item) { it.Row = 8 }, true}, // who compares knows the number
		"last digit":       {func(it *Item) { it.InputParam = json.RawMessage(`{"a":"中","n":12345678901234567891}`) }, false},
		"other chart":      {func(it *Item) { it.QueueID = "f2" }, false},
		"other module":     {func(it *Item) { it.ModuleName = "n" }, false},
		"other method":     {func(it *Item) { it.MethodName = "n" }, false},
		"other kind":       {func(it *Item) { it.Name = "n" }, false},
	} {
		other := one
		c.change(&other)
		if one.Same(other) != c.same || other.Same(one) != c.same {
			t.Errorf("%s: want %v", name, c.same)
		}
		if (one.Digest() == other.Digest()) != c.same {
			t.Errorf("%s: digest", name)
		}
	}
	a, b := Item{SubmitID: "order-7", Name: "a"}, Item{SubmitID: "order-7", Name: "b"}
	if !a.Same(b) {
		t.Error("the same submit_id is the same work")
	}
}
