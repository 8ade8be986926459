package main

import "github.com/stellara/edge/state"

// checkRedis is about where Redis is and how connections to it are made. Errors do not repeat the URL, which may hold a password.
func (c *Config) checkRedis(p *problems) {
	var address state.Address
	if c.RedisURL != "" {
		var err error
		if address, err = state.ParseURL(string(c.RedisURL)); err != nil {
			p.add("REDIS_URL", "%v", err)
			return
		}
	}
	for _, f := range []struct{ name, path string }{
		{"REDIS_TLS_CA", c.RedisTLSCA}, {"REDIS_TLS_CERT", c.RedisTLSCert}, {"REDIS_TLS_KEY", c.RedisTLSKey},
	} {
		if f.path != "" && !address.Secure() {
			p.add(f.name, "means nothing, because REDIS_URL does not begin with rediss:// or rediss-sentinel://")
		}
	}
	switch {
	case (c.RedisTLSCert == "") == (c.RedisTLSKey == ""):
	case c.RedisTLSKey == "":
		p.add("REDIS_TLS_KEY", "is required with REDIS_TLS_CERT")
	default:
		p.add("REDIS_TLS_CERT", "is required with REDIS_TLS_KEY")
	}
	if !p.has("REDIS_TLS_CA") {
		if err := (state.TLSFiles{CA: c.RedisTLSCA}).Check(); err != nil {
			p.add("REDIS_TLS_CA", "%v", err)
		}
	}
	if !p.has("REDIS_TLS_CERT") && !p.has("REDIS_TLS_KEY") {
		if err := (state.TLSFiles{Cert: c.RedisTLSCert, Key: c.RedisTLSKey}).Check(); err != nil {
			p.add("REDIS_TLS_CERT", "%v", err)
		}
	}
}

// redisTLS are the files for TLS to Redis.
func (c *Config) redisTLS() state.TLSFiles {
	return state.TLSFiles{CA: c.RedisTLSCA, Cert: c.RedisTLSCert, Key: c.RedisTLSKey}
}

// redisName is where Redis is, without credentials, for the log.
func (c *Config) redisName() string {
	if c.RedisURL == "" {
		return "embedded"
	}
	address, err := state.ParseURL(string(c.RedisURL))
	if err != nil {
		return "invalid"
	}
	return address.String()
}

// redisServers are the addresses of Redis or of its sentinels, none with the in-process one.
func (c *Config) redisServers() []string {
	address, err := state.ParseURL(string(c.RedisURL))
	if c.RedisURL == "" || err != nil {
		return nil
	}
	return address.Servers()
}
