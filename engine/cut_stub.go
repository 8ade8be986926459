package engine

import "github.com/stellara/edge/socketio"

// Cut says that a socket moved from one node to another, as the generation-th that
// has it.
func (s *Server) Cut(ns, sid string, generation uint64, at socketio.Offset) {}
