package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/rs/zerolog"
)

// maxLine bounds a line of output; a longer one is cut into several.
const maxLine = 64 << 10

// logLines writes each line of a child's output into our log, as it is into copied unless that is nil, and tells heard unless that is nil. A line that is
// JSON of our own kind keeps its level and fields.
func logLines(r io.Reader, copied io.Writer, log zerolog.Logger, heard func(line string)) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if copied != nil && len(line) > 0 {
			_, _ = copied.Write(line) // whoever gave it to us knows what to do
		}
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			logLine(text, log)
			if heard != nil {
				heard(text)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
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
