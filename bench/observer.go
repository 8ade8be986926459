//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// observedUsers is how many users the observer looks at every second.
const observedUsers = 100

// observer is a Node.js process that reads the presence keys all the time and compares them with what
// it is told here; see node/observer.mjs. The methods that tell it something may be called from any
// goroutine.
type observer struct {
	process *process
	out     *os.File
	done    chan []byte // what it printed, once it has closed its output

	mu    sync.Mutex // guards the rest
	in    *os.File
	lost  error // why it cannot be told anything any more
	clock load.Clock
}

// truthLine is what the observer reads; see node/observer.mjs.
type truthLine struct {
	User   string   `json:"user,omitempty"`
	SID    string   `json:"sid,omitempty"`
	Rooms  []string `json:"rooms,omitempty"`
	At     float64  `json:"at,omitempty"` // milliseconds of the monotonic clock
	Flux   bool     `json:"flux,omitempty"`
	Forget bool     `json:"forget,omitempty"`
	End    bool     `json:"end,omitempty"`
}

// errNoObserver is why there can be no observer on a machine.
var errNoObserver = errors.New("no independent observer")

// observerCommand returns the command line of the observer, or an errNoObserver that says what is missing.
func observerCommand(ctx context.Context) ([]string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("%w: Node.js is missing", errNoObserver)
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "bench", "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "ioredis")); err != nil {
		return nil, fmt.Errorf("%w: its module ioredis is missing, run npm ci in bench/node", errNoObserver)
	}
	return []string{node, filepath.Join(dir, "observer.mjs")}, nil
}

// startObserver starts it on a Redis; an entry that is wrong for longer than limit counts. Must be called
// on the main goroutine, see main.
func startObserver(argv []string, dir, redisURL, prefix string, limit time.Duration, clock load.Clock) (*observer, error) {
	o := &observer{clock: clock, done: make(chan []byte, 1)}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return nil, err
	}
	defer outW.Close()
	o.in, o.out = inW, outR
	o.process, err = startOn(inR, outW, "observer", dir, append(argv, redisURL,
		fmt.Sprint(limit.Milliseconds()), fmt.Sprint(observedUsers), prefix)...)
	if err != nil {
		inW.Close()
		outR.Close()
		return nil, err
	}
	go func() {
		text, _ := io.ReadAll(outR) // what is missing shows when it is decoded
		o.done <- text
	}()
	return o, nil
}

// startOn is start with a standard input and output; errors still go to the log.
func startOn(in, out *os.File, name, dir string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, log
	return p, p.launch()
}

// tell writes lines. A failure is kept for end: whoever makes connections has other things to do.
func (o *observer) tell(lines ...truthLine) {
	if o == nil {
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range lines {
		if err := enc.Encode(&lines[i]); err != nil {
			panic(err) // a struct of strings and numbers
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost != nil {
		return
	}
	// A process that does not read must not hold up those who tell it something.
	_ = o.in.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, o.lost = o.in.Write(b.Bytes())
}

// flux says that the user is changing, so that what its keys say does not count until truth is called.
func (o *observer) flux(user string) { o.tell(truthLine{User: user, Flux: true}) }

// truth says what is true about a user from now on; no socket id means offline.
func (o *observer) truth(user, sid string, rooms ...string) {
	if o != nil {
		o.tell(truthLine{User: user, SID: sid, Rooms: rooms, At: float64(o.clock.Now()) / 1e6})
	}
}

// forget says that nobody knows the truth about these users; nothing about them counts, then or before.
func (o *observer) forget(users ...string) {
	lines := make([]truthLine, len(users))
	for i, user := range users {
		lines[i] = truthLine{User: user, Forget: true}
	}
	o.tell(lines...)
}

// end asks for the result and ends the process. What went wrong is part of the result, since the figures
// of the benchmark do not depend on it.
func (o *observer) end() *report.Observer {
	o.tell(truthLine{End: true})
	text := []byte(nil)
	select {
	case text = <-o.done:
	case <-time.After(15 * time.Second):
	}
	o.close()
	var r report.Observer
	if err := json.Unmarshal(text, &r); err != nil {
		return &report.Observer{Missing: oneLine(o.process.failure("gave no result").Error())}
	}
	if o.lost != nil {
		r.Missing = fmt.Sprintf("it could not be told everything: %v", o.lost)
	}
	return &r
}

// close ends the process, whatever it is doing.
func (o *observer) close() {
	if o == nil {
		return
	}
	_ = o.process.cmd.Process.Kill() // fails only if it has ended
	<-o.process.done
	o.in.Close()
	o.out.Close()
}

// oneLine makes one line of an error with several.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
