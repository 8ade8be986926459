// Package hostile is the attackers of a benchmark: connections that do what clients must not do, from many
// addresses of the loopback network, at a pace. What they do was done to other servers of this kind, or is
// what such a server must expect. They keep no promise and check none: what became of a server's own clients
// meanwhile is for others to find out.
package hostile
