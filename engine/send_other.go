//go:build !linux

package engine

import "github.com/lesismal/nbio"

// sendNow leaves everything to nbio's Write.
func sendNow(*nbio.Conn, []byte) (int, error) { return 0, nil }

// hangUp closes the connection.
func hangUp(nb *nbio.Conn) { _ = nb.Close() }
