package state

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Address says where Redis is: one server, or the sentinels that know which of
// several is the master. It is read-only, and printed without credentials.
type Address struct {
	secure         bool     // TLS
	servers        []string // host:port, one; with Sentinel those of the sentinels
	master         string   // what the sentinels call the master; "" without Sentinel
	user, password string
	db             int

	sentinelUser, sentinelPassword string // "" where the sentinels ask for none
}

// Forms of an Address.
const (
	plainForm    = "redis://[user:password@]host[:port][/db] or rediss://… (TLS)"
	sentinelForm = "redis-sentinel://[user:password@]host[:port],host[:port]/master[/db] or rediss-sentinel://… (TLS)"
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// Errors of ParseURL. None repeats any of the URL, which may hold a password in the wrong place.
var (
	errForm = errors.New("must look like " + plainForm + ", or " + sentinelForm +
		"; special characters of names and passwords are percent-encoded")
	errSeveral = errors.New("names several servers, and one is supported, or sentinels: " + sentinelForm +
		"; Redis Cluster is not supported")
	errNoMaster = errors.New("must name the master that the sentinels watch, as in redis-sentinel://host:26379,host:26379/mymaster")
	errDatabase = errors.New("must end with the number of a database, or without one")
	errQuery    = errors.New("has parameters that are not known: only those of redis-sentinel://, sentinel_user and sentinel_password, are")
	errScheme   = errors.New("must begin with redis://, rediss://, redis-sentinel:// or rediss-sentinel://")
)

// ParseURL reads the URL of a Redis:
//
//	redis://[user:password@]host[:port][/db]
//	redis-sentinel://[user:password@]host[:port],host[:port].../master[/db][?sentinel_user=…&sentinel_password=…]
//
// and the same with rediss and rediss-sentinel, for TLS to all servers. Ports
// are 6379 and 26379 where none is given; user and password are those of the Redis servers.
// The single server's form is that of https://www.iana.org/assignments/uri-schemes/prov/redis, the names of the
// schemes for Sentinel are Lettuce's. Errors do not repeat the URL.
func ParseURL(rawURL string) (Address, error) {
	scheme, rest, _ := strings.Cut(rawURL, "://")
	var a Address
	port := redisPort
	sentinel := false
	switch scheme {
	case "redis", "rediss":
	case "redis-sentinel", "rediss-sentinel":
		sentinel, port = true, sentinelPort
	default:
		return Address{}, errScheme
	}
	a.secure = strings.HasPrefix(scheme, "rediss")
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.ContainsRune(rest+query, '#') {
		return Address{}, errForm
	}
	hosts := authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := a.readUser(authority[:at]); err != nil {
			return Address{}, err
		}
		hosts = authority[at+1:]
	}
	for host := range strings.SplitSeq(hosts, ",") {
		server, err := readServer(host, port)
		if err != nil {
			return Address{}, err
		}
		a.servers = append(a.servers, server)
	}
	if len(a.servers) > 1 && !sentinel {
		return Address{}, errSeveral
	}
	if sentinel {
		var err error
		master, db, _ := strings.Cut(path, "/")
		if a.master, err = url.PathUnescape(master); err != nil || a.master == "" {
			return Address{}, errNoMaster
		}
		path = db
	}
	if err := a.readDatabase(path); err != nil {
		return Address{}, err
	}
	return a, a.readQuery(query, sentinel)
}

func (a *Address) readUser(info string) error {
	user, password, _ := strings.Cut(info, ":")
	var errUser, errPassword error
	a.user, errUser = url.PathUnescape(user)
	a.password, errPassword = url.PathUnescape(password)
	if errUser != nil || errPassword != nil {
		return errForm
	}
	return nil
}

// readServer returns host:port of what a URL says.
func readServer(s, port string) (string, error) {
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		host = s[1 : len(s)-1]
	} else if strings.Contains(s, ":") {
		return "", errForm
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, " []@%") {
		return "", errForm
	}
	return net.JoinHostPort(host, port), nil
}

func (a *Address) readDatabase(path string) error {
	if path == "" {
		return nil
	}
	n, err := strconv.ParseUint(path, 10, 31)
	if err != nil {
		return errDatabase
	}
	a.db = int(n)
	return nil
}

func (a *Address) readQuery(query string, sentinel bool) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errForm
	}
	for name, value := range values {
		switch {
		case name == "addr":
			return errSeveral
		case sentinel && name == "sentinel_user" && len(value) == 1:
			a.sentinelUser = value[0]
		case sentinel && name == "sentinel_password" && len(value) == 1:
			a.sentinelPassword = value[0]
		default:
			return errQuery
		}
	}
	return nil
}

// String is the URL without credentials, for logs.
func (a Address) String() string {
	scheme, path := "redis", ""
	if a.secure {
		scheme = "rediss"
	}
	if a.master != "" {
		scheme, path = scheme+"-sentinel", "/"+url.PathEscape(a.master)
	}
	if a.db != 0 {
		path += "/" + strconv.Itoa(a.db)
	}
	return scheme + "://" + strings.Join(a.servers, ",") + path
}

// GoString is String: %#v prints no credentials either.
func (a Address) GoString() string { return a.String() }

// Servers are the addresses in the URL, host:port: Redis's, or with Sentinel
// those of the sentinels.
func (a Address) Servers() []string { return slices.Clone(a.servers) }

// Secure reports whether connections use TLS.
func (a Address) Secure() bool { return a.secure }
