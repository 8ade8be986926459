package main

import "time"

// Defaults of the drain where there are other nodes. A balancer that looks once a
// second and wants to see a node down twice has noticed after little more than 2 s, and
// Kubernetes has told its proxies within a few; with SHUTDOWN_GRACE it is 25 s in all,
// below the 30 s that Kubernetes gives a pod. A node alone has nobody to leave its
// clients to, so it does not wait.
const (
	usualDrainDelay  = 5 * time.Second
	usualDrainWindow = 10 * time.Second
)

// Bounds of an age of conns, but for 0: below, clients would do little else than come back.
const minConnAge, maxConnAge = time.Second, 30 * 24 * time.Hour

// setDrain sets the defaults of what environ does not say.
func (c *Config) setDrain(environ map[string]string) {
	if c.RedisURL == "" {
		return
	}
	if environ["DRAIN_DELAY"] == "" {
		c.DrainDelay = usualDrainDelay
	}
	if environ["DRAIN_WINDOW"] == "" {
		c.DrainWindow = usualDrainWindow
	}
}

// checkDrain compares the times of the drain with their bounds.
func (c *Config) checkDrain(p *problems) {
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"DRAIN_DELAY", c.DrainDelay}, {"DRAIN_WINDOW", c.DrainWindow}} {
		if !p.has(d.name) && (d.v < 0 || d.v > maxGrace) {
			p.add(d.name, "%v is not between %v and %v", d.v, time.Duration(0), maxGrace)
		}
	}
	if age := c.MaxConnAge; !p.has("MAX_CONN_AGE") && age != 0 && (age < minConnAge || age > maxConnAge) {
		p.add("MAX_CONN_AGE", "%v is neither 0 nor between %v and %v", age, minConnAge, maxConnAge)
	}
}
