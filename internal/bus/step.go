package bus

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// stepHeaders say which step a message is about. They stay with the step when it moves from WORK to DEAD and back.
var stepHeaders = []string{HeaderID, HeaderKey, HeaderKind, HeaderDatabase, HeaderDigest}

// StepMessage is a step as WORK and DEAD keep it.
type StepMessage struct {
	ID       work.ID
	Kind     string // name of the queue
	Flow     string
	Ticket   string // ticket, may be empty
	Database string // id of the database that has the row
	Digest   string // of an item that is not in the body, or not all of it; may be empty
	Body     []byte // the item; nothing for one that cannot be carried

	Tried int           // attempts without a message
	Delay time.Duration // not to be run before it has passed
}

// Work builds the message that queues the step.
func (s StepMessage) Work() *nats.Msg {
	msg := s.message(WorkSubject(s.Kind, s.Flow, s.ID.String()))
	msg.Header.Set(HeaderMsgID, s.ID.MsgID())
	if s.Tried > 0 {
		msg.Header.Set(HeaderTried, strconv.Itoa(s.Tried))
	}
	if s.Delay > 0 {
		msg.Header.Set(HeaderDelay, strconv.FormatInt(s.Delay.Milliseconds(), 10))
	}
	return msg
}

// Retry reads from a message of WORK how often the step was tried before it had this message, and how long the step waits from when the
// message was stored.
func Retry(h nats.Header) (tried int, delay time.Duration) {
	tried, _ = strconv.Atoi(h.Get(HeaderTried))
	ms, _ := strconv.ParseInt(h.Get(HeaderDelay), 10, 64)
	return max(tried, 0), time.Duration(max(ms, 0)) * time.Millisecond
}

// Dead builds the message that shows a step as dead although it never was queued.
func (s StepMessage) Dead(d Death) *nats.Msg {
	msg := s.message(DeadSubject(s.Kind, s.Flow, s.ID.String()))
	d.set(msg.Header)
	return msg
}

func (s StepMessage) message(subject string) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Data = s.Body
	msg.Header.Set(HeaderID, s.ID.String())
	msg.Header.Set(HeaderKind, HeaderText(s.Kind))
	msg.Header.Set(HeaderDatabase, s.Database)
	if s.Ticket != "" {
		msg.Header.Set(HeaderKey, HeaderText(s.Ticket))
	}
	if s.Digest != "" {
		msg.Header.Set(HeaderDigest, s.Digest)
	}
	return msg
}

// Death says why a step is dead.
type Death struct {
	Worker  string // that gave up
	Reason  string
	Err     error
	Attempt int
}

func (d Death) set(h nats.Header) {
	h.Set(HeaderAttempt, strconv.Itoa(d.Attempt))
	h.Set(HeaderDeadReason, HeaderText(d.Reason))
	h.Set(HeaderDeadError, HeaderText(d.Err.Error()))
	h.Set(HeaderDeadWorker, d.Worker)
	h.Set(HeaderDeadAt, time.Now().UTC().Format(time.RFC3339))
}

// DeadPlace is the subject on DEAD of a message of WORK: the same tokens.
func DeadPlace(workSubject string) string { return "dead" + strings.TrimPrefix(workSubject, "work") }

// DeadCopy builds the message for DEAD of a step whose message is on WORK.
func DeadCopy(queued *nats.Msg, d Death) *nats.Msg {
	msg := stepCopy(DeadPlace(queued.Subject), queued.Header, queued.Data)
	d.set(msg.Header)
	return msg
}

// RetryMessage builds the message that queues a dead step again. Its identity is new, so that the Booster does not take it for a
// repetition of the first life, and the same for every run of a command, so that a repetition within the Booster's window does no
// harm.
func RetryMessage(dead *jetstream.RawStreamMsg) *nats.Msg {
	msg := again(dead, "-retry-")
	msg.Header.Set(HeaderCheck, "true") // it may have been done before it was declared dead
	return msg
}

// DiscardMessage builds the order to any worker to remove the row of a dead step. Its identity is made as that of RetryMessage.
func DiscardMessage(dead *jetstream.RawStreamMsg) *nats.Msg {
	msg := again(dead, "-discard-")
	msg.Header.Set(HeaderDiscard, "true")
	return msg
}

func again(dead *jetstream.RawStreamMsg, action string) *nats.Msg {
	kind, flow, id := SubjectTokens(dead.Subject)
	msg := stepCopy(WorkSubject(kind, flow, id), dead.Header, dead.Data)
	if step, err := work.ParseID(id); err == nil {
		msg.Header.Set(HeaderMsgID, step.MsgID()+action+strconv.FormatUint(dead.Sequence, 10))
	}
	return msg
}

// stepCopy builds a message with the body and the identity of another.
func stepCopy(subject string, h nats.Header, body []byte) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Data = body
	for _, name := range stepHeaders {
		if value := h.Get(name); value != "" {
			msg.Header.Set(name, value)
		}
	}
	return msg
}

// SubjectTokens returns what a subject of WORK or DEAD says of its step. A flow that has no name is empty.
func SubjectTokens(subject string) (kind, flow, id string) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 {
		return "", "", SubjectID(subject)
	}
	if tokens[2] == label("") {
		tokens[2] = ""
	}
	return tokens[1], tokens[2], tokens[3]
}
