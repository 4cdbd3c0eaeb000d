// Package httpexec executes steps by posting them to a URL: for work that is not OMFLOW's.
//
// The receiver may see a step more than once (a lost answer, a worker that died) and must tell by Idempotency-Key
// whether it has applied it already. Whatever it answers decides what becomes of the step:
//
//	2xx                                                done
//	408, 425, 429, 5xx, no answer, no connection       tried again; not before Retry-After, if the answer has one
//	every other 4xx, redirects                         given up at once: the same request would fail again
//
// A refused connection costs an attempt like any failure, although nothing ran. If it did not, a wrong URL would be
// tried for ever and never reach DEAD, where people look.
package httpexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/worker"
)

const (
	dialTimeout    = 5 * time.Second
	tlsTimeout     = 10 * time.Second
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 64 << 10
	maxBodyBytes   = 64 << 10 // read of an answer, so that its connection can be used again
)

// headerIdempotencyKey is draft-ietf-httpapi-idempotency-key-header. It also lets net/http repeat a request whose
// connection turned out to be closed before anything was answered.
const headerIdempotencyKey = "Idempotency-Key"

// Config of an Executor.
type Config struct {
	URL         string        // http or https; takes the steps
	Slots       int           // steps at the same time, and connections that are kept for them
	StepTimeout time.Duration // from the first byte of the request to the last of the answer
}

// Executor posts steps. It implements worker.Executor.
type Executor struct {
	cfg    Config
	log    zerolog.Logger
	client *http.Client
	ready  chan struct{}
}

// New returns an executor that has not connected yet. It returns a *config.Error for a wrong setting.
func New(cfg Config, log zerolog.Logger) (*Executor, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		// Without the value: it may hold a password.
		return nil, &config.Error{
			Var: "WORKER_HTTP_URL", Problem: "not a URL of http or https with a host",
			Fix: "use for example http://127.0.0.1:8080/steps",
		}
	}
	if err := config.Between("WORKER_SLOTS", cfg.Slots, 1, 1<<20); err != nil {
		return nil, err
	}
	if err := config.Positive("WORKER_STEP_TIMEOUT", cfg.StepTimeout); err != nil {
		return nil, err
	}
	return &Executor{
		cfg:   cfg,
		log:   log,
		ready: make(chan struct{}),
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSHandshakeTimeout:    tlsTimeout,
				ForceAttemptHTTP2:      true,
				MaxConnsPerHost:        cfg.Slots,
				MaxIdleConnsPerHost:    cfg.Slots,
				IdleConnTimeout:        idleTimeout,
				MaxResponseHeaderBytes: maxHeaderBytes,
			},
			// A redirect of a POST changes its meaning, or sends the step somewhere that nobody configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Ready is closed as soon as Run begins: whether the receiver is there shows when a step is posted.
func (e *Executor) Ready() <-chan struct{} { return e.ready }

// Run waits for the end of ctx and closes the idle connections. Call it once.
func (e *Executor) Run(ctx context.Context) error {
	close(e.ready)
	<-ctx.Done()
	e.client.CloseIdleConnections()
	return nil
}

// Execute posts one step and judges the answer. See the package comment for its errors.
func (e *Executor) Execute(ctx context.Context, s worker.Step) error {
	body, err := s.Item.Encode()
	if err != nil {
		return fmt.Errorf("%w: %w", worker.ErrPermanent, err)
	}
	if !s.Lease.Valid() {
		return fmt.Errorf("%w: %w before it was posted", worker.ErrNotStarted, worker.ErrLeaseLost)
	}
	stepCtx, cancel := context.WithTimeout(ctx, e.cfg.StepTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(stepCtx, http.MethodPost, e.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post step: %w", err)
	}
	setHeaders(req.Header, s)

	began := time.Now()
	res, err := e.client.Do(req)
	if err != nil {
		return e.unanswered(ctx, stepCtx, s, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBodyBytes))
	if err != nil && res.StatusCode >= 300 {
		answer = append(answer, " (cut off)"...) // the status says enough
	} else if err != nil {
		// The receiver says done, but was it done saying so? It can tell by the key when it is asked again.
		return e.unanswered(ctx, stepCtx, s, fmt.Errorf("read answer: %w", err))
	}
	e.log.Debug().Stringer(logging.Work, s.ID).Int("status", res.StatusCode).Dur("took", time.Since(began)).Msg("step posted")
	return judge(res, answer)
}

func setHeaders(h http.Header, s worker.Step) {
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "omflow-booster")
	h.Set(headerIdempotencyKey, s.ID.MsgID())
	h.Set(bus.HeaderID, s.ID.String())
	h.Set(bus.HeaderKind, headerText(s.Kind))
	h.Set(bus.HeaderKey, headerText(s.Ticket))
	h.Set(bus.HeaderAttempt, strconv.Itoa(s.Attempt))
}

// headerText keeps a name that came with the item from breaking the request.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// unanswered is the error of a step that got no complete answer.
func (e *Executor) unanswered(ctx, stepCtx context.Context, s worker.Step, err error) error {
	switch {
	case !s.Lease.Valid(): // the reason why the worker cancels
		return fmt.Errorf("%w before the answer came: %w", worker.ErrLeaseLost, err)
	case ctx.Err() != nil:
		return fmt.Errorf("the step was cancelled: %w", context.Cause(ctx))
	case errors.Is(stepCtx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s (WORKER_STEP_TIMEOUT): %w", e.cfg.StepTimeout, err)
	default:
		return err // names method and URL, without a password
	}
}
