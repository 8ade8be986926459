// Package law enforces the rules of the design that the compiler does not: who
// may import whom, and no mutable package state. It has only tests.
package law
