package patch

import (
	"bufio"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// VersionFile says which version of OMFLOW a home holds, in lines such as "version=1.1.4.0" or "version_num=1140".
const VersionFile = "omflow/syscom/version.bin"

// HomeVersion returns the version of the OMFLOW Server in home, or "" if its version file is missing or says nothing.
func HomeVersion(home fs.FS) string {
	f, err := home.Open(VersionFile)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	return parseVersion(f)
}

// parseVersion prefers version= over version_num=, whichever comes first.
func parseVersion(r io.Reader) string {
	number := ""
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10)) // the file is some hundred bytes; it may hold more than text
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		if value == "" || len(value) > maxNameBytes || strings.ContainsFunc(value, notVersion) {
			continue
		}
		switch strings.TrimSpace(key) {
		case "version":
			return value
		case "version_num":
			number = value
		}
	}
	return number
}

func notVersion(r rune) bool { return r <= ' ' || r > '~' }

// FitsHome tells whether the patch is meant for a home of that version. A patch that is older than the home returns fits ==
// false and no error: there is nothing to do. One that needs another version returns an error that matches ErrInvalid. What is
// not known is not held against the patch, nor is the older version against one that takes another one back, or that says that
// it is for the version that the home has: that is meant.
func (a Announcement) FitsHome(version string) (fits bool, err error) {
	if version == "" {
		return true, nil
	}
	if a.Reverts == "" && a.From != version && a.To != "" && Older(a.To, version) {
		return false, nil
	}
	if a.From != "" && version != a.From && version != a.To {
		return false, invalid("it is for version %s and this server has %s", a.From, version)
	}
	return true, nil
}

// Older tells whether version a is surely older than b.
func Older(a, b string) bool { return a != "" && b != "" && compareVersions(a, b) < 0 }

// compareVersions compares dotted numbers: -1, 0 or 1. Parts that are not numbers, or missing, count as 0: two versions that
// cannot be told apart are never called older and newer.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	if len(as) == 1 != (len(bs) == 1) {
		return 0 // 1140 and 1.1.4.0 are two ways of counting
	}
	for i := range max(len(as), len(bs)) {
		x, y := part(as, i), part(bs, i)
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}

func part(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}
