//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/stellara/edge/bench/report"
)

// watchFlags are about presence while messages flow: who changes it, and who looks.
type watchFlags struct {
	observer bool
	churn    float64
}

func (w *watchFlags) register(fs *flag.FlagSet) {
	fs.BoolVar(&w.observer, "observer", true,
		"steady, on servers of its own: a Node.js process compares the presence keys with the truth all the time")
	fs.Float64Var(&w.churn, "churn", 2,
		"steady, on servers of its own: changes of presence per second by further users (connect, join, leave, move, disconnect); 0: none")
}

func (w *watchFlags) validate() error {
	if w.churn < 0 || w.churn > 1000 {
		return fmt.Errorf("-churn: %v changes per second, can be 0 to 1000", w.churn)
	}
	return nil
}

// watch starts the observer of the presence keys and prepares the users that change them. Without
// Node.js or its module it says so, and the measurement goes on without an observer.
func (m *measurement) watch(ctx context.Context) error {
	var rate float64
	if m.stack.ours() {
		rate = m.cfg.watch.churn
		if err := m.observe(ctx); err != nil {
			return err
		}
	}
	m.churn = newChurn(&m.stack.plan, rate, m.observer)
	return nil
}

// observe starts the observer and tells it about all connections of the plan.
func (m *measurement) observe(ctx context.Context) error {
	if !m.cfg.watch.observer {
		m.sys.Observer = &report.Observer{Missing: "off by -observer=false"}
		return nil
	}
	argv, err := observerCommand(ctx)
	if errors.Is(err, errNoObserver) {
		m.say("%v; going on without", err)
		m.sys.Observer = &report.Observer{Missing: err.Error()}
		return nil
	}
	if err != nil {
		return err
	}
	if m.observer, err = startObserver(argv, m.stack.dir, m.stack.redisURL, m.presence.prefix, presenceLimit, m.clock); err != nil {
		return err
	}
	dropped, err := m.stack.fleet.Dropped()
	if err != nil {
		return err
	}
	m.observer.tell(truthLines(newTruth(&m.stack.plan, m.sids, dropped), float64(m.clock.Now())/1e6)...)
	return nil
}

// truthLines is a whole truth in the observer's language.
func truthLines(t *truth, at float64) []truthLine {
	lines := make([]truthLine, 0, len(t.users))
	for i, user := range t.users {
		line := truthLine{User: user, At: at}
		if t.online[i] {
			line.SID = t.sids[i]
			for _, room := range t.roomsOf[i] {
				line.Rooms = append(line.Rooms, t.rooms[room])
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// unwatch takes the observer's result. Connections that the server dropped are failures of their own;
// since when they were gone nobody knows.
func (m *measurement) unwatch() error {
	m.sys.Churn = m.churn.result()
	if m.observer == nil {
		return nil
	}
	dropped, err := m.stack.fleet.Dropped()
	if err != nil {
		return err
	}
	for _, i := range dropped {
		m.observer.forget(m.stack.plan.User(i))
	}
	m.sys.Observer = m.observer.end()
	if o := m.sys.Observer; o.Missing != "" {
		m.say("observer: %s", o.Missing)
	} else {
		m.say("observer: %d users looked at, %d changes, %d disagreements, wrong for %.0f ms at most",
			o.Samples, o.Changes, o.Disagreements, o.LongestMS)
	}
	return nil
}
