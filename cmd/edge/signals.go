package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// urgency is how soon the process is to end.
type urgency int

const (
	noUrgency  urgency = iota
	afterDrain         // after a drain
	afterFlush         // after what must be flushed
	atOnce
)

// after is what one more signal asks for. SIGINT is somebody at a keyboard, who does not wait for balancers.
func (u urgency) after(s os.Signal) urgency {
	if s == syscall.SIGINT {
		return max(u+1, afterFlush)
	}
	return u + 1
}

// onSignals drains the node when the process is told to end by SIGTERM or SIGINT,
// until stop is called.
func onSignals(d *drain, log *slog.Logger) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	over := make(chan struct{})
	go func() {
		u := noUrgency
		for {
			select {
			case s := <-signals:
				switch u = u.after(s); u {
				case afterDrain:
					d.begin(true, s.String())
				case afterFlush:
					log.Info("closing all conns at once", "signal", s.String())
					d.hurry(s.String())
				default:
					log.Warn("exiting at once", "signal", s.String())
					os.Exit(exitFailed)
				}
			case <-over:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(over)
	}
}
