// Command bench measures the edge, and the Node.js system it replaces, from outside: it starts the
// servers and a redis-server, connects thousands of Socket.IO clients, sends messages at fixed times,
// checks what arrives and reads the presence keys.
//
//	go run ./bench                        5,000 connections in 50 rooms on 3 edge nodes
//	go run ./bench -system both           the same, on the Node.js system and on the edge
//	go run ./bench -scenario loss         50,000 connections lost with the nodes that held them
//	go run ./bench -scenario heartbeat    traffic of an idle node and Redis
//	go run ./bench -scenario idle         15,000 idle connections on one process: memory
//	go run ./bench -scenario saturation   the highest rate at which nothing is lost or late
//	go run ./bench -scenario tiny-rooms   many rooms of two
//	go run ./bench -scenario floor        what a bare write costs, without any server
//	go run ./bench -scenario compare      several of these on both systems, three times each: ratios
//	go run ./bench -scenario chaos-presence   faults of nodes and Redis: presence
//	go run ./bench -scenario chaos-delivery   faults of clients, nodes and Redis: messages
//	go run ./bench -scenario recovery     clients that all lose their node and come back at once
//	go run ./bench -scenario slow-readers 500 of 5,000 connections that stop reading: their price, and what the others notice
//	go run ./bench -scenario hostile      attackers of every kind beside clients that must not notice
//	go run ./bench -scenario storm        clients of a node that all come back within a second
//	go run ./bench -scenario churn        connections that come and go all the time
//	go run ./bench -scenario journal      what the journal costs
//	go run ./bench -scenario coalescing   what collecting messages before a write is good for
//	go run ./bench -scenario moves        memory and price of conns that went to another node
//	go run ./bench -target HOST:PORT,...  servers that run already
//
// It prints a table and writes bench-*.json and bench-*.html to the directory of -out.
package main
