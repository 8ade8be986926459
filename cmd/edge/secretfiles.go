package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// fileSuffix makes the name of the variable that names a secret's file.
const fileSuffix = "_FILE"

// maxSecretFile is the largest file taken for a secret, in bytes: beyond it the name is a mistake.
const maxSecretFile = 64 << 10

// secretNames are the variables that may be given as a file as well, in the order of Config: all secrets.
func secretNames() (names []string) {
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.Type == reflect.TypeFor[secret]() {
			names = append(names, f.Tag.Get("env"))
		}
	}
	return names
}

// readOnce are the secrets whose files are read when the process starts: all but those
// with a variable of their own for the file, which is read again when it changes.
func readOnce() []string {
	own := map[string]bool{}
	for f := range reflect.TypeFor[Config]().Fields() {
		own[f.Tag.Get("env")] = true
	}
	return slices.DeleteFunc(secretNames(), func(name string) bool { return own[name+fileSuffix] })
}

// withSecretFiles returns environ with the contents of the files that NAME_FILE
// names as the values of NAME, for the secrets of readOnce: Kubernetes, Docker and systemd
// mount them so, and they do not show in the environment of the process. A
// newline at the end of a file is not part of the secret. read returns a file's
// content. Errors name the variable and the file, and nothing that is in it.
func withSecretFiles(environ map[string]string, read func(path string) ([]byte, error)) (map[string]string, error) {
	resolved := maps.Clone(environ)
	p := problems{}
	for _, name := range readOnce() {
		variable := name + fileSuffix
		path := environ[variable]
		if path == "" {
			continue
		}
		if environ[name] != "" {
			p.add(variable, "%s is set, too: it is not clear which of them is meant", name)
			continue
		}
		content, err := read(path)
		value := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
		switch {
		case err != nil:
			p.add(variable, "%v", err)
		case value == "":
			p.add(variable, "%s is empty", path)
		case strings.ContainsAny(value, "\r\n\x00"):
			p.add(variable, "%s is not one line of text", path)
		default:
			resolved[name] = value
		}
	}
	return resolved, errors.Join(p.errs...)
}

// readSecretFile returns the content of a file of at most maxSecretFile bytes.
func readSecretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(content) > maxSecretFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxSecretFile)
	}
	return content, nil
}
