package patch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
)

// same tells whether the home has the file already.
func (j *Journal) same(f File) (bool, error) {
	info, err := j.home.root.Lstat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.Size() != f.Size || !samePerm(info.Mode(), f.Mode) {
		return false, err
	}
	in, err := j.home.root.Open(f.Path)
	if err != nil {
		return false, err
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == f.SHA256, nil
}
