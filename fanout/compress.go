package fanout

// TakeCompressed lets the conn get the compressed form of messages from here on,
// where there is one. It is called before Attach, or on the conn's shard from within
// a method of its Sink. What is in the outbox already stays as it is.
func (c *Conn) TakeCompressed() { c.flags |= connCompressed }

// form is m as c gets it: the one to count, to queue and to send.
func (c *Conn) form(m *Message) *Message {
	if c.flags&connCompressed == 0 {
		return m
	}
	cfg := &c.shard.hub.cfg
	if cfg.Compress == nil || m.Plain || len(m.Frame) < cfg.CompressFrom {
		return m
	}
	// Another shard may be at it: it is sooner done than it would be here.
	m.once.Do(func() {
		m.compressed = m
		if small := cfg.Compress(m.Frame); small != nil {
			m.compressed = m.WithFrame(small)
			m.compressed.Plain = true // not again
		}
	})
	return m.compressed
}
