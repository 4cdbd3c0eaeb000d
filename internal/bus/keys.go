package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// A question that comes while the leadership of a stream moves is answered by nobody, so no wait for an answer is longer than
// these, whatever the context allows.
const (
	readTimeout = 2 * time.Second // of one key
	lookTimeout = 5 * time.Second // at all nodes

	readsAtOnce = 32 // keys of a bucket that are read at the same time
)

// Entry is a key of a bucket with its value; an empty one was removed.
type Entry struct {
	Key   string
	Value []byte
}

// ReadAll reads the keys of a bucket that match filter, in the order of Keys and with its errors, each as ReadKey does.
func ReadAll(ctx context.Context, js jetstream.JetStream, bucket, filter string) ([]Entry, error) {
	keys, err := Keys(ctx, js, bucket, filter)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(keys))
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(readsAtOnce)
	for i, key := range keys {
		reads.Go(func() error {
			value, _, err := ReadKey(ctx, js, bucket, key)
			entries[i] = Entry{Key: key, Value: value}
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	return entries, nil
}

// Keys returns the keys of a bucket that match filter, sorted, removed ones included, or jetstream.ErrBucketNotFound. Like
// Nodes it makes no consumer.
func Keys(ctx context.Context, js jetstream.JetStream, bucket, filter string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	prefix := KeySubject(bucket, "")
	subjects, err := subjectsOf(ctx, js, BucketStream(bucket), prefix+filter)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = jetstream.ErrBucketNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", bucket, err)
	}
	keys := make([]string, 0, len(subjects))
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		keys = append(keys, strings.TrimPrefix(subject, prefix))
	}
	return keys, nil
}

// subjectsOf counts the messages of a stream by subject, with one request for each 100,000 of them: jetstream.Stream asks once
// more before it asks.
func subjectsOf(ctx context.Context, js jetstream.JetStream, stream, filter string) (map[string]uint64, error) {
	all := map[string]uint64{}
	for {
		request, err := json.Marshal(map[string]any{"subjects_filter": filter, "offset": len(all)})
		if err != nil {
			return nil, err
		}
		reply, err := js.Conn().RequestWithContext(ctx, APIPrefix+"STREAM.INFO."+stream, request)
		if err != nil {
			return nil, err
		}
		var answer struct {
			Error *jetstream.APIError
			Total int
			State struct{ Subjects map[string]uint64 }
		}
		if err := json.Unmarshal(reply.Data, &answer); err != nil {
			return nil, err
		}
		if answer.Error != nil {
			if answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound {
				return nil, jetstream.ErrStreamNotFound
			}
			return nil, answer.Error
		}
		before := len(all)
		maps.Copy(all, answer.State.Subjects)
		if len(all) >= answer.Total || len(all) == before {
			return all, nil
		}
	}
}

// ReadKey is the value of a key and its revision, by the leader of the bucket; empty and 0 when there is none.
//
// A direct get, as KeyValue.Get makes, is answered by any member, and a server whose routes change meanwhile races with it
// (nats-server 2.15.2, stream.go:6365). Boosters change their routes when a witness is appointed.
func ReadKey(ctx context.Context, js jetstream.JetStream, bucket, key string) (value []byte, revision uint64, err error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": KeySubject(bucket, key)})
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	reply, err := js.Conn().RequestWithContext(ctx, APIPrefix+"STREAM.MSG.GET."+BucketStream(bucket), request)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s of %s: %w", key, bucket, err)
	}
	var answer struct {
		Error   *jetstream.APIError
		Message struct {
			Seq  uint64
			Data []byte
		}
	}
	if err = json.Unmarshal(reply.Data, &answer); err == nil && answer.Error != nil {
		err = answer.Error
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s of %s: %w", key, bucket, err)
	}
	return answer.Message.Data, answer.Message.Seq, nil
}

// IsRefused tells whether a write that expected a revision failed because somebody has written in between, or is doing so.
func IsRefused(err error) bool {
	const inFlight = 10164 // nats-server, errors.json: JSStreamWrongLastSequenceConstantErr
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == inFlight)
}
