package main

import (
	"fmt"
	"strconv"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/websocket"
)

// deflateLevel is DEFLATE: the level of compression, 0 for none.
type deflateLevel int

// UnmarshalText reads off, on or a level.
func (d *deflateLevel) UnmarshalText(b []byte) error {
	switch text := string(b); text {
	case "off":
		*d = 0
	case "on":
		*d = websocket.MinDeflateLevel
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < websocket.MinDeflateLevel || n > websocket.MaxDeflateLevel {
			return fmt.Errorf("%q is not off, on, or a level from %d to %d", b, websocket.MinDeflateLevel, websocket.MaxDeflateLevel)
		}
		*d = deflateLevel(n)
	}
	return nil
}

// String is the level, for the log.
func (d deflateLevel) String() string {
	if d == 0 {
		return "off"
	}
	return strconv.Itoa(int(d))
}

// deflate is the engine's setting, nil for none.
func (c *Config) deflate() *engine.Deflate {
	if c.Deflate == 0 {
		return nil
	}
	return &engine.Deflate{Level: int(c.Deflate), From: c.DeflateFrom}
}
