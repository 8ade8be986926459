// Package load is the client side of the benchmark: one process of it holds thousands of Socket.IO
// connections in one goroutine on one epoll, sends messages at fixed times, and checks every message
// that arrives. A Fleet drives one or several such processes and adds up what they saw.
//
// The client shares the machine with the servers it measures, so receiving is made cheap: one read
// per wake-up, no JSON decoding, the stamp is found by its first bytes. Times are nanoseconds of the
// system's monotonic clock, which all processes of a machine share.
package load
