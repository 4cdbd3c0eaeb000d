package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Database is the one database whose steps a bus carries. CONTROL keeps it under KeyDatabase.
type Database struct {
	ID    string `json:"id"`    // the same in each copy and backup of it
	Place string `json:"place"` // another one for each copy; empty if the database does not say
	URL   string `json:"url"`   // for people: without the password
}

// String names a database for people.
func (d Database) String() string { return fmt.Sprintf("%s (id %.8s)", d.URL, d.ID) }

// ReadDatabase returns the database that the bus belongs to and the revision of the key; the zero Database if it belongs to none yet.
func ReadDatabase(ctx context.Context, js jetstream.JetStream) (d Database, revision uint64, err error) {
	data, revision, err := ReadKey(ctx, js, BucketControl, KeyDatabase)
	if err != nil || len(data) == 0 {
		return Database{}, revision, err
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return Database{}, revision, fmt.Errorf("read %s of %s: %w", KeyDatabase, BucketControl, err)
	}
	return d, revision, nil
}

// WriteDatabase makes the bus that of d, if nobody else has written the key since revision; see IsRefused.
func WriteDatabase(ctx context.Context, js jetstream.JetStream, d Database, revision uint64) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err = js.Publish(ctx, KeySubject(BucketControl, KeyDatabase), data, jetstream.WithExpectLastSequencePerSubject(revision))
	return err
}

// proveMost is how many ids one request names: they fit into any server's limit.
const proveMost = 10_000

// AskProof asks the reconciler to look at the rows of these steps at once. heard tells whether there is one; if not, the next
// one looks at every row.
func AskProof(ctx context.Context, nc *nats.Conn, ids []string) (heard bool, err error) {
	for len(ids) > 0 {
		some := ids[:min(len(ids), proveMost)]
		ids = ids[len(some):]
		call, cancel := context.WithTimeout(ctx, readTimeout)
		_, err := nc.RequestWithContext(call, SubjectProve, []byte(strings.Join(some, " ")))
		cancel()
		if errors.Is(err, nats.ErrNoResponders) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("ask for a look at rows: %w", err)
		}
	}
	return true, nil
}

// AnswerProof calls look with the ids of each request of AskProof until stop is called.
func AnswerProof(nc *nats.Conn, look func(ids []string)) (stop func(), err error) {
	sub, err := nc.Subscribe(SubjectProve, func(m *nats.Msg) {
		look(strings.Fields(string(m.Data)))
		if m.Reply != "" {
			_ = m.Respond(nil) // who asks has a deadline
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", SubjectProve, err)
	}
	return func() { _ = sub.Unsubscribe() }, nc.FlushTimeout(time.Second)
}
