package broker

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
)

// natsLog brings the embedded server's log into ours.
type natsLog struct{ log zerolog.Logger }

// Noticef is the server's normal log. Its banner at start says nothing that our own lines do not say, so it is debug here.
func (l natsLog) Noticef(format string, v ...any) { l.log.Debug().Msg(line(format, v)) }

func (l natsLog) Warnf(format string, v ...any)  { l.level(zerolog.WarnLevel, format, v) }
func (l natsLog) Errorf(format string, v ...any) { l.level(zerolog.ErrorLevel, format, v) }

// Fatalf is an error that the server does not survive; it is Run that ends the process.
func (l natsLog) Fatalf(format string, v ...any) {
	l.log.Error().Bool("fatal", true).Msg(line(format, v))
}
func (l natsLog) Debugf(format string, v ...any) { l.log.Debug().Msg(line(format, v)) }
func (l natsLog) Tracef(format string, v ...any) { l.log.Trace().Msg(line(format, v)) }

// usual are lines that the server repeats while a member is away, or that our own settings make it say. Our own log and
// `omflow-booster status` say the same once.
var usual = []string{"Error trying to connect to route", "Waiting for routing to be established", "Plaintext passwords detected"}

func (l natsLog) level(level zerolog.Level, format string, v []any) {
	text := line(format, v)
	for _, u := range usual {
		if strings.HasPrefix(text, u) {
			level = zerolog.DebugLevel
		}
	}
	l.log.WithLevel(level).Msg(text)
}

func line(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
