// Package manifests tests what deploys the edge: the Dockerfile, and the files
// of deploy/ for Compose, Kubernetes and systemd. It is a module of its own, so
// that the types these files are decoded into (of Kubernetes, Compose and
// BuildKit) are no dependencies of the product.
//
// Nothing is deployed. Files are decoded strictly into the types that the real
// programs read them with, the settings in them are given to the edge's own
// check of its configuration, and what has to agree across files is compared.
// What can run on a plain Linux does: the command that builds the image, and
// the program in a root directory that has nothing else in it.
package manifests
