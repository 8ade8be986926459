// Package delivery is the client side of the tests of connection state recovery: clients that come back
// to their sessions as the official client does, publishers that number their messages and repeat them
// until they are acknowledged, and a checker that compares what was received with what was published.
// Starting processes and harming them is the caller's.
//
// A session is a chain of connections of one client: it goes on with each return that was recovered, and
// ends when a return was not, of which the client is told. Within a session nothing may be lost, come
// twice or out of order, whatever happened to connections, nodes and Redis; what is missing between two
// sessions was told, and counts as missed, not as lost.
package delivery
