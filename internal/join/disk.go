package join

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/config"
)

// Variable names the join file of a host.
const Variable = "BOOSTER_JOIN_FILE"

// mode of every join file that we write: later ones carry credentials, too.
const mode = 0o600

// Load reads the file that BOOSTER_JOIN_FILE names; its errors are *config.Error.
func Load(path string) (*File, error) {
	if path == "" {
		return nil, &config.Error{
			Var: Variable, Problem: "not set",
			Fix: "name the join file of this host; `omflow-booster join new` makes the first one",
		}
	}
	f, err := Read(path)
	var open modeError
	switch {
	case errors.As(err, &open):
		return nil, &config.Error{Var: Variable, Problem: err.Error(), Fix: "chmod 600 " + path}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, &config.Error{Var: Variable, Problem: err.Error(), Fix: "name a file that this user may read"}
	case err != nil:
		return nil, &config.Error{Var: Variable, Problem: err.Error(), Fix: "copy it anew from another host (`omflow-booster join public`)"}
	}
	return f, nil
}

// modeError is a private key that others may read.
type modeError struct{ mode fs.FileMode }

func (e modeError) Error() string {
	return fmt.Sprintf("others may read its private key (mode %04o)", e.mode)
}

// Read reads a join file and makes sure that it fits together. On Unix a private key that others may read is an error.
func Read(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	f, err := decode(data)
	if err == nil && f.signing != nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		err = modeError{info.Mode().Perm()}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Create writes a new file, for its owner alone. One that is there already is refused with an error that matches fs.ErrExist.
func (f *File) Create(path string) error {
	data, err := f.encode()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Replace writes the file in the place of the one that it was read from.
func (f *File) Replace(path string) error {
	data, err := f.encode()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return atomicfile.Write(path, data, mode)
}
