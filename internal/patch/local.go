package patch

import (
	"bytes"
	"io"
	"os"
	"path"
)

// WriteLocal writes a file that belongs to one server alone, which no patch brings, into a home that does not have it. It
// appears as a whole.
func WriteLocal(home *os.Root, name string, content []byte, mode Mode) error {
	dir, temp := path.Dir(name), path.Join(path.Dir(name), ".booster-"+path.Base(name))
	if err := home.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := keepOwner(home, dir, dir); err != nil {
		return err
	}
	out, err := home.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = home.Remove(temp) }()
	_, err = io.Copy(out, bytes.NewReader(content))
	if err == nil {
		err = out.Sync()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = keepOwner(home, temp, temp)
	}
	if err == nil {
		err = home.Chmod(temp, mode.perm())
	}
	if err == nil {
		err = home.Rename(temp, name)
	}
	if err == nil {
		err = syncDir(home, dir)
	}
	return err
}
