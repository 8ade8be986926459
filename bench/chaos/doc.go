// Package chaos is the client side of the presence fault test: a crowd of users that keeps moving,
// the truth about its open sockets and their rooms, the presence keys as Redis has them, the
// difference between the two, and observers that count the presence updates they get. It also has the
// TCP proxy through which a node reaches Redis, so that the way can be cut. Starting processes and
// harming them is the caller's.
//
// The truth is what the clients know: a socket is open from the answer to CONNECT until its connection
// ends, and a member of a room from the acknowledgement of join until it asks to leave. While an
// operation is under way its entry is undecided, and neither value is wrong.
package chaos
