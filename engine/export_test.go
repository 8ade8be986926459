package engine

// Writable reports whether a volatile event would be sent to the socket now.
func Writable(s *Socket) bool { return s.conn.fan.Backlog() == 0 }
