package bus

import (
	"encoding/base64"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Names that the NATS server and its clients have made, not we.

// SystemAccount is the account of the server's own subjects.
const SystemAccount = "$SYS"

// APIPrefix begins the subjects of the JetStream API.
const APIPrefix = jetstream.DefaultAPIPrefix

// Requests to the JetStream API for which the client library has no call.
const (
	MetaStepDown = APIPrefix + "META.LEADER.STEPDOWN" // the leader of the cluster; in the system account
	MetaRescue   = APIPrefix + "META.RESCUE"          // a majority is lost for good; in the system account
	MemberRemove = APIPrefix + "SERVER.REMOVE"        // takes a member out of the cluster; in the system account
)

// StreamStepDown is the request to the leader of a stream to give its place to another member.
func StreamStepDown(stream string) string { return APIPrefix + "STREAM.LEADER.STEPDOWN." + stream }

// WorkersStepDown is the request to the leader of the workers' consumer to give its place to another member.
func WorkersStepDown() string {
	return APIPrefix + "CONSUMER.LEADER.STEPDOWN." + StreamWork + "." + ConsumerWorkers
}

const (
	bucketStreams = "KV_"
	objectStreams = "OBJ_"
)

// BucketStream is the stream of a bucket.
func BucketStream(bucket string) string { return bucketStreams + bucket }

// ObjectStream is the stream of an object store.
func ObjectStream(store string) string { return objectStreams + store }

// IsObjectStream tells whether a stream is that of an object store.
func IsObjectStream(stream string) bool { return strings.HasPrefix(stream, objectStreams) }

// KeySubject is the subject of a key in the stream of its bucket. The key may have wildcards, or be empty: then it is the
// prefix of all keys.
func KeySubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// ChunksSubject is the subject of the chunks of an object in PATCHES (NATS ADR-20).
func ChunksSubject(nuid string) string { return "$O." + ObjectPatches + ".C." + nuid }

// ObjectSubject is the subject of what PATCHES says of an object.
func ObjectSubject(name string) string {
	return objectSubjects + base64.URLEncoding.EncodeToString([]byte(name))
}

const objectSubjects = "$O." + ObjectPatches + ".M."

// ObjectSubjects matches the subject of what PATCHES says of each object.
const ObjectSubjects = objectSubjects + "*"
