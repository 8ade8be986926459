// Package documents holds the tests of what the documents say: every link leads
// somewhere, and docs/operations.md explains every metric and every reason.
package documents
