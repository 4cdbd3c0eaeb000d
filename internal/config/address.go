package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Host checks the address or name of one host, and returns it in plain form: IPv6 without brackets and in its short spelling.
// Nothing is looked up. An empty value is returned as it is.
func Host(name, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	wrong := func(problem string) (string, error) {
		shown := fmt.Sprintf("%q ", value)
		if strings.Contains(value, "@") { // there may be a password before it
			shown = "it "
		}
		return "", &Error{
			Var: name, Problem: shown + problem,
			Fix: "give one address or name, for example 10.0.0.5, fd00::5 or booster1.example.com",
		}
	}
	bare := value
	if strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
		bare = value[1 : len(value)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil && (bare == value || addr.Is6()) {
		switch addr = addr.Unmap(); {
		case addr.IsUnspecified():
			return wrong("stands for every address of a host and leads to none")
		case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return wrong("is not the address of one host")
		}
		return addr.String(), nil
	}
	_, port, err := net.SplitHostPort(value)
	switch {
	case strings.Contains(value, "://"):
		return wrong("is a URL")
	case strings.ContainsAny(value, ",; "):
		return wrong("names several hosts, or holds a blank")
	case strings.Contains(value, "/"):
		return wrong("is a network or a path, not a host")
	case err == nil && port != "":
		return wrong("holds a port, which has a variable of its own")
	case !hostName(value):
		return wrong("is neither an IP address nor the name of a host")
	}
	return value, nil
}

// hostName tells whether a name could be one in DNS, or of a container: letters, digits, hyphens and underscores between dots.
// One that ends in a number is an address with a mistake in it.
func hostName(value string) bool {
	labels := strings.Split(strings.TrimSuffix(value, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return len(value) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// Address checks the IP address that a service listens on, which may stand for all of a host: 0.0.0.0 or ::. It returns it
// without brackets.
func Address(name, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(value, "["), "]"))
	if err != nil {
		return "", &Error{
			Var: name, Problem: fmt.Sprintf("%q is not an IP address", value),
			Fix: "give one of this host's, or 0.0.0.0 for all of them (IPv6 too: ::)",
		}
	}
	return addr.String(), nil
}

// Name checks a name that somebody gave.
func Name(variable, value string) error {
	if !utf8.ValidString(value) {
		return &Error{Var: variable, Problem: fmt.Sprintf("%q is not UTF-8", value), Fix: "write it in UTF-8"}
	}
	if len(value) > 200 {
		return &Error{Var: variable, Problem: fmt.Sprintf("%d bytes are too long for a name", len(value)), Fix: "use 200 at most"}
	}
	return nil
}

// Path checks the path of a file or directory, as far as that goes without looking at the disk.
func Path(name, value string) error {
	if strings.HasPrefix(value, "~") || strings.HasPrefix(value, "$") {
		return &Error{Var: name, Problem: fmt.Sprintf("%q would be taken literally: nobody expands it", value), Fix: "write the whole path"}
	}
	if strings.HasPrefix(value, "file:") || strings.Contains(value, "://") {
		return &Error{Var: name, Problem: fmt.Sprintf("%q is a URL", value), Fix: "give the path alone, such as " +
			filepath.FromSlash("/var/lib/omflow-booster")}
	}
	return nil
}
