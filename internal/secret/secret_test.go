package secret

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestByName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"omflow/settings.py.before-20260131-094500.000": settings, "omflow/settings.py.bak": settings, "settings.py2": settings,
		"settings.pyi":       "",
		"omflow/settings.py": "", "static/settings.js": "", "django/conf/project_template/settings.py-tpl": "",
		".env": environment, "deploy/prod.env": environment, ".env.example": "", "environment.py": "",
		"keys/ID_RSA": privateKey, "id_rsa.pub": "", "server.pfx": privateKey, "cacert.pem": "", "all.json": "",
	} {
		require.Equal(t, want, ByName(name), name)
	}
}

func TestByContent(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("QUJD", 16)
	for content, want := range map[string]string{
		"-----BEGIN RSA PRIVATE KEY-----\n" + key:                                                   privateKey,
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,00\n\n" + key:       privateKey,
		"-----BEGIN OPENSSH PRIVATE KEY-----\r\n" + key:                                             privateKey,
		`{"key": "-----BEGIN PRIVATE KEY-----\n` + key + `"}`:                                       privateKey,
		"if b'-----BEGIN RSA PRIVATE KEY-----' in data:\n    raise ValueError('a private key')":     "",
		"-----BEGIN CERTIFICATE-----\n" + key:                                                       "",
		`[{"model":"omuser.omuser","fields":{"password":"pbkdf2_sha256$150000$abc$` + key + `="}}]`: hashes,
		"algorithm = 'pbkdf2_sha256'; '%s$%d$%s$%s' % (algorithm, iterations, salt, hash)":          "",
		"x bcrypt_sha256$$2b$12$" + strings.Repeat("a", 53):                                         hashes,
		"import os\nSECRET_KEY = 'q7^k&e+w5h!)9l0+7v2s#x1@a3z'\n":                                   settings,
		"SECRET_KEY = '{{ secret_key }}' # a template":                                              "",
		"SECRET_KEY = os.environ['SECRET_KEY']":                                                     "",
		"{\n  \"patch_key\": \"" + key + "\"\n}":                                                    "a join file with its private key",
		"SQLite format 3\x00 and pages":                                                             database,
		"PGDMP\x01\x0e":                                                                             dump,
		"":                                                                                          "",
	} {
		for _, part := range []int{1 << 20, 7} {
			padded := content
			if want != database && want != dump {
				padded = strings.Repeat("lines before\n", 500) + content
			}
			var l Look
			for rest := padded; rest != ""; rest = rest[min(part, len(rest)):] {
				_, err := l.Write([]byte(rest[:min(part, len(rest))]))
				require.NoError(t, err)
				if part < 10 && want == database || part < 10 && want == dump {
					break // its beginning comes at once
				}
			}
			if part > 10 || want != database && want != dump {
				require.Equal(t, want, l.What(), content)
			}
		}
	}
}
