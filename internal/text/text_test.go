package text

import (
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour:                      "0s",
		0:                               "0s",
		800 * time.Millisecond:          "800ms",
		12*time.Second + 900*1e6:        "12s",
		time.Minute:                     "1m",
		192 * time.Second:               "3m12s",
		59*time.Minute + 59*time.Second: "59m59s",
		5*time.Hour + 2*time.Minute:     "5h2m",
		76 * time.Hour:                  "3d4h",
		400 * 24 * time.Hour:            "400d",
	} {
		if got := Age(d); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567", -1000: "-1,000", -999: "-999",
	} {
		if got := Count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	if got := Counted(1, "step") + ", " + Counted(1200, "step"); got != "1 step, 1,200 steps" {
		t.Errorf("counted: %q", got)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 10 << 10: "10 KiB", 1<<20 - 1: "1 MiB",
		12 << 20: "12 MiB", 5 << 30: "5 GiB", 3 << 50: "3 PiB", 5000 << 50: "5000 PiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "12345": "12345", "123456": "1234…", "日本語六文字": "日本語六…"} {
		if got := Shorten(in, 5); got != want {
			t.Errorf("shorten(%q) = %q, want %q", in, got, want)
		}
	}
}
