//go:build !linux

package engine

import (
	"github.com/lesismal/nbio"

	"github.com/stellara/edge/fanout"
)

// writeNow writes through nbio; see write_linux.go for what it saves there.
func writeNow(nb *nbio.Conn, p []byte, _ *fanout.Conn) error {
	_, err := nb.Write(p)
	return err
}
