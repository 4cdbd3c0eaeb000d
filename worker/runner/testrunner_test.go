package runner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

// modeVar turns the test binary into one of the programs below.
const modeVar = "RUNNER_TEST_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeVar); mode {
	case "":
		leaktest.Main(m)
	case "worker":
		workerMain()
	default:
		runnerMain(mode)
	}
}

// testRunner is a runner whose behaviour in a step is chosen by the method name of the item.
type testRunner struct {
	lines   chan string // standard input, closed at its end
	renewed []string    // renewals that came while it waited for something else
}

func runnerMain(mode string) {
	switch mode {
	case "exit-early":
		fmt.Fprintln(os.Stderr, "no module named omflow")
		os.Exit(4)
	case "never-ready":
		select {}
	case "protocol-9":
		say(map[string]any{"op": "ready", "protocol": 9})
		select {}
	case "short-reader": // dies over the item
		say(map[string]any{"op": "ready", "protocol": 1})
		_, _ = io.ReadFull(os.Stdin, make([]byte, 1000))
		os.Exit(5)
	case "noisy":
		fmt.Print("importing the world\n{not json}\n\n")
	}
	r := &testRunner{lines: make(chan string)}
	go func() {
		in := bufio.NewReaderSize(os.Stdin, 1<<20)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				close(r.lines)
				return
			}
			r.lines <- line
		}
	}()
	say(map[string]any{"op": "ready", "protocol": 1, "name": "test"})
	for line := range r.lines {
		var m runMessage
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			panic(err)
		}
		if m.Op == opRun {
			r.step(m)
		}
	}
	if marker := os.Getenv("RUNNER_TEST_EOF_MARKER"); marker != "" {
		_ = os.WriteFile(marker, []byte("end of input"), 0o600)
	}
}

func (r *testRunner) step(m runMessage) {
	switch m.Item.MethodName {
	case "ok":
	case "pid":
		r.put(m, map[string]any{"pid": os.Getpid()})
	case "count": // shows the test when it begins and ends
		r.put(m, "begin")
		time.Sleep(20 * time.Millisecond)
		r.put(m, "end")
	case "put": // input_param is the list of items
		say(map[string]any{"op": "put", "id": m.ID, "n": 1, "items": m.Item.InputParam})
		say(map[string]any{"op": "failed", "id": m.ID, "error": <-r.lines})
		return
	case "fail": // input_param is the message, without op and id
		fields := map[string]any{"op": "failed", "id": m.ID}
		_ = json.Unmarshal(m.Item.InputParam, &fields)
		say(fields)
		return
	case "skipped", "kept":
		say(map[string]any{"op": "done", "id": m.ID, m.Item.MethodName: true})
		return
	case "follow":
		sayDone(m)
		return
	case "recycle":
		say(map[string]any{"op": "done", "id": m.ID, "recycle": true})
		return
	case "echo":
		say(map[string]any{"op": "failed", "id": m.ID, "error": string(m.Item.InputParam)})
		return
	case "size":
		say(map[string]any{"op": "failed", "id": m.ID, "error": fmt.Sprint(len(m.Item.InputParam))})
		return
	case "print":
		fmt.Println("hello from user code")
		fmt.Println(`{"a":1}`)
		fmt.Println(`{"op":"someday","id":"` + m.ID + `"}`)
		fmt.Println(`{"op":"done","id":"q999999"}`)
		fmt.Println(strings.Repeat("x", 1<<20))
		fmt.Fprintln(os.Stderr, "a line on standard error")
	case "malformed", "print-before", "nan", "no-id", "long-line":
		broken(m)
		select {}
	case "crash":
		for i := range 7 {
			fmt.Fprintln(os.Stderr, "last words", i)
		}
		os.Exit(3)
	case "done-then-exit":
		say(map[string]any{"op": "done", "id": m.ID, "recycle": true})
		os.Exit(0)
	case "close-stdout":
		_ = os.Stdout.Close()
		select {}
	case "hang":
		r.put(m, map[string]any{"pid": os.Getpid()})
		fmt.Fprintln(os.Stderr, "waiting for Godot")
		select {}
	case "deaf": // leaves its standard input unread
		r.put(m, map[string]any{"pid": os.Getpid()})
		select {}
	case "tree": // a grandchild that holds the pipes
		child := exec.Command("sleep", "600")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		r.put(m, map[string]any{"pid": child.Process.Pid})
		select {}
	case "freeze":
		r.put(m, map[string]any{"pid": os.Getpid()})
		freeze()
		select {} // the signal may take a moment to reach this thread
	case "renew": // reports the deadlines that it was told
		r.put(m, map[string]any{"deadline": m.Deadline})
		if len(r.renewed) == 0 {
			r.renewed = append(r.renewed, <-r.lines)
		}
		var renewed renewMessage
		_ = json.Unmarshal([]byte(r.renewed[0]), &renewed)
		r.put(m, map[string]any{"op": renewed.Op, "deadline": renewed.Deadline})
	default:
		panic("unknown method " + m.Item.MethodName)
	}
	say(map[string]any{"op": "done", "id": m.ID})
}

// sayDone answers with the done message that is in input_param, without op and id, if the worker takes follow-up steps there.
func sayDone(m runMessage) {
	fields := map[string]any{"op": "done", "id": m.ID}
	_ = json.Unmarshal(m.Item.InputParam, &fields)
	if !m.Follow {
		fields = map[string]any{"op": "failed", "id": m.ID, "error": "the worker takes none"}
	}
	say(fields)
}

// put queues one item with param and waits for the answer.
func (r *testRunner) put(m runMessage, param any) {
	item := map[string]any{"row": 1, "queue_id": "", "name": "Test", "module_name": "m", "method_name": "m", "input_param": param}
	say(map[string]any{"op": "put", "id": m.ID, "n": 1, "items": []any{item}})
	for line := range r.lines {
		if !strings.Contains(line, `"op":"renew"`) {
			return
		}
		r.renewed = append(r.renewed, line)
	}
}

func say(m any) {
	line, err := encode(m)
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.Write(line)
}

// broken writes what is no message of the protocol.
func broken(m runMessage) {
	switch m.Item.MethodName {
	case "malformed":
		fmt.Println(`{"op":"done","id":5}`)
	case "print-before": // what user code printed has no newline
		fmt.Println(`50%{"op":"done","id":"` + m.ID + `"}`)
	case "nan":
		fmt.Println(`{"id": "` + m.ID + `", "error": NaN, "op": "failed"}`)
	case "no-id":
		fmt.Println(`{"op":"done"}`)
	case "long-line":
		fmt.Print(strings.Repeat("x", maxLine+2*readBuffer))
	}
}
