package work

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Same tells whether two items are one step: a database that was set back, or another one, gives the numbers of its rows again. The
// parameter is compared as JSON, because the Python side and ours write the same value differently.
func (it Item) Same(other Item) bool {
	if it.SubmitID != "" && it.SubmitID == other.SubmitID {
		return true // its sender says so
	}
	lean := len(it.InputParam) == 0 || len(other.InputParam) == 0 // one of them travelled without its parameter
	return it.QueueID == other.QueueID && it.Name == other.Name && it.ModuleName == other.ModuleName && it.MethodName == other.MethodName &&
		(lean || bytes.Equal(plain(it.Params()), plain(other.Params())))
}

// Digest stands for what Same compares, where the item itself is not kept.
func (it Item) Digest() string {
	sum := sha256.New()
	for _, part := range [][]byte{
		[]byte(it.QueueID), []byte(it.Name), []byte(it.ModuleName), []byte(it.MethodName), plain(it.Params()),
	} {
		one := sha256.Sum256(part) // all of one length, so that no two lists of parts look alike
		sum.Write(one[:])
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// plain writes a JSON value in one way only; what is no JSON stays as it is.
func plain(data json.RawMessage) []byte {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return data
	}
	out, err := json.Marshal(value)
	if err != nil {
		return data
	}
	return out
}
