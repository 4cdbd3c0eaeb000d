package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// maxLine bounds a line of output; a longer one is cut into several.
const maxLine = 64 << 10

// logLines writes each line of a child's output into our log, as it is into copied unless that is nil, and tells heard unless
// that is nil. A line that is JSON of our own kind keeps its level and fields.
func logLines(r io.Reader, copied io.Writer, log zerolog.Logger, heard func(line string)) {
	in := bufio.NewReaderSize(&prompting{r}, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if copied != nil && len(line) > 0 {
			_, _ = copied.Write(line) // the owner of the writer handles its errors
		}
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			logLine(text, log)
			if heard != nil {
				heard(text)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// promptWait is how long the end of a line is waited for: what asks a question and waits for the answer does not end it.
const promptWait = time.Second

// prompting reads an output. Between two reads the end of a line that was begun is waited for no longer than promptWait; then Read returns
// os.ErrDeadlineExceeded and can be called again. Where the system knows no deadlines (pipes on Windows) it waits for ever.
type prompting struct{ r io.Reader }

func (p *prompting) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if d, ok := p.r.(interface{ SetReadDeadline(t time.Time) error }); ok {
		end := time.Time{}
		if n > 0 && b[n-1] != '\n' {
			end = time.Now().Add(promptWait)
		}
		_ = d.SetReadDeadline(end)
	}
	return n, err
}

func logLine(text string, log zerolog.Logger) {
	var fields map[string]any
	if text[0] != '{' || json.Unmarshal([]byte(text), &fields) != nil {
		log.Info().Msg(text)
		return
	}
	message, _ := fields[zerolog.MessageFieldName].(string)
	word, _ := fields[zerolog.LevelFieldName].(string)
	level, err := zerolog.ParseLevel(word)
	if err != nil || level == zerolog.NoLevel || level > zerolog.ErrorLevel {
		level = zerolog.InfoLevel // whatever a child says, it does not end us
	}
	for _, ours := range []string{zerolog.MessageFieldName, zerolog.LevelFieldName, zerolog.TimestampFieldName, "service", "child"} {
		delete(fields, ours)
	}
	log.WithLevel(level).Fields(fields).Msg(message)
}

// message is what a line says; of one of our own kind the message and the error, without its other fields.
func message(text string) string {
	var fields struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal([]byte(text), &fields) != nil || fields.Message == "" {
		return text
	}
	return strings.TrimSuffix(fields.Message+": "+fields.Error, ": ")
}
