// Package secret recognizes files that must not leave a host unless somebody asks for it: by their name, and by what is in
// them. It knows what lies around beside an OMFLOW Server, such as copies of its settings, dumps of its database and private
// keys, and errs on the side of keeping a file: a wrong guess is named to the operator, a secret that has left cannot be called
// back.
package secret

import (
	"bytes"
	"path"
	"regexp"
	"strings"
)

// names are patterns of base names in lower case.
var names = map[string]string{
	".env": environment, ".env.*": environment, "*.env": environment,
	".pgpass": passwords, ".netrc": passwords, "_netrc": passwords, ".my.cnf": passwords, ".htpasswd": passwords,
	".git-credentials": passwords,
	"id_rsa":           privateKey, "id_dsa": privateKey, "id_ecdsa": privateKey, "id_ed25519": privateKey,
	"*.p12": privateKey, "*.pfx": privateKey, "*.jks": privateKey, "*.ppk": privateKey, "*.kdbx": passwords,
	"settings.py[^cdiowx]*": settings, // not what Python makes of it, nor its stubs
}

const (
	environment = "settings with passwords"
	passwords   = "passwords"
	privateKey  = "a private key"
	settings    = "a copy of the server's settings"
	hashes      = "password hashes, as a dump of the database has them"
	dump        = "a dump of the database"
	database    = "a database"
)

// examples are what programs bring along to be copied and filled in.
var examples = []string{".example", ".sample", ".template", ".dist", "-tpl"}

// ByName says what a file holds, judged by its name; empty if the name tells nothing.
func ByName(name string) string {
	base := strings.ToLower(path.Base(name))
	for _, end := range examples {
		if strings.HasSuffix(base, end) {
			return ""
		}
	}
	for pattern, what := range names {
		if ok, _ := path.Match(pattern, base); ok {
			return what
		}
	}
	return ""
}

// sign is what gives a content away: a word that is looked for quickly, and what must be around it.
type sign struct {
	word []byte
	full *regexp.Regexp
	what string
}

const base64ish = `[A-Za-z0-9+/=]`

// A program that only speaks of such things, as libraries do, has the words and not what they introduce.
var signs = []sign{
	{[]byte("PRIVATE KEY"), regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----(\s|\\n|\\r)+([A-Za-z-]+: [^\n]*\s+)*` +
		base64ish + `{40}`), privateKey},
	{[]byte("PuTTY-User-Key-File"), regexp.MustCompile(`PuTTY-User-Key-File-\d: \S+\r?\nEncryption: `), privateKey},
	{[]byte("patch_key"), regexp.MustCompile(`"patch_key"\s*:\s*"` + base64ish + `{40,}"`), "a join file with its private key"},
	{[]byte("pbkdf2_sha"), regexp.MustCompile(`pbkdf2_sha(1|256|512)\$\d+\$[^$\s]+\$` + base64ish + `{27,}`), hashes},
	{
		[]byte("argon2id$v="), regexp.MustCompile(`argon2\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$` + base64ish + `+\$` + base64ish + `{20,}`),
		hashes,
	},
	{[]byte("bcrypt"), regexp.MustCompile(`bcrypt(_sha256)?\$\$2[aby]\$\d\d\$[A-Za-z0-9./]{53}`), hashes},
	{[]byte("scrypt$"), regexp.MustCompile(`scrypt\$[^$\s]+\$\d+\$\d+\$` + base64ish + `{40,}`), hashes},
	{[]byte("SECRET_KEY"), regexp.MustCompile(`(?m)^\s*SECRET_KEY\s*=\s*[rb]?['"][^'"\n{]{20,}['"]`), settings},
}

// beginnings are what a content that gives itself away begins with.
var beginnings = map[string]string{"SQLite format 3\x00": database, "PGDMP": dump}

// around is how much of what was seen is looked at again with what follows.
const around = 1 << 10

// Look sees a content go by. The zero value has seen nothing.
type Look struct {
	seen []byte // the end of what has gone by
	any  bool
	what string
}

// Write looks at the next part, and never fails.
func (l *Look) Write(p []byte) (int, error) {
	if l.what != "" || len(p) == 0 {
		return len(p), nil
	}
	if !l.any {
		l.any = true
		for begin, what := range beginnings {
			if bytes.HasPrefix(p, []byte(begin)) {
				l.what = what
				return len(p), nil
			}
		}
	}
	l.seen = append(l.seen, p...)
	for i := range signs {
		if s := &signs[i]; bytes.Contains(l.seen, s.word) && s.full.Match(l.seen) {
			l.what = s.what
			return len(p), nil
		}
	}
	l.seen = append(l.seen[:0], l.seen[max(0, len(l.seen)-around):]...)
	return len(p), nil
}

// What says what the content holds; empty if nothing has given it away.
func (l *Look) What() string { return l.what }
