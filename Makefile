# Stellara Edge. `make` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

GO ?= go
FUZZTIME ?= 10s
BENCH ?= .
BENCHPKG ?= ./websocket ./socketio ./fanout ./engine ./trunk
IMAGE ?= stellara/edge:dev
FLAGS ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# Packages whose tests also run under the race detector; the others start processes. Of ./test, only what runs the
# edge inside the test does.
RACE := ./websocket/... ./socketio/... ./fanout/... ./metrics/... ./engine/... ./state/... ./trunk/...
# Whether there is a race detector. Where there is, it has seen all of ./state, whose tests take minutes: they are not run
# a second time without it. The end-to-end tests have a step of their own.
HAS_RACE = [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null
SOURCES = $$(find . -name node_modules -prune -o -name '.?*' -prune -o -name '*.go' -print)

##@ Use
.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## an edge on 127.0.0.1:3000 with an in-process Redis; needs nothing but Go
	@exec ./bin/edge

.PHONY: build
build: ## bin/edge, a static program
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/edge ./cmd/edge

.PHONY: docker
docker: ## a container image
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) -t $(IMAGE) .

##@ Check
.PHONY: test
test: tools gofmt vet race unit manifests fuzz-short e2e ## everything that must pass before a change is good

.PHONY: gofmt
gofmt:
	@echo "== gofmt"
	@unformatted=$$(gofmt -l $(SOURCES)); \
	if [ -n "$$unformatted" ]; then printf 'not formatted, run gofmt -w on:\n%s\n' "$$unformatted" >&2; exit 1; fi

.PHONY: vet
vet:
	@echo "== go vet"
	$(GO) vet ./...

.PHONY: race
race:
	@echo "== tests under the race detector"
	@if $(HAS_RACE); then \
		$(GO) test -race $(RACE) && $(GO) test -race -run '^TestRecovery' ./test; \
	else \
		echo "skipped: the race detector needs a C compiler (Debian: apt-get install gcc libc6-dev)"; \
	fi

.PHONY: unit
unit:
	@echo "== tests"
	@if $(HAS_RACE); then skip='/(test|state)$$'; else skip='/test$$'; fi; \
	$(GO) test $$($(GO) list ./... | grep -Ev "$$skip")

# A module of its own: the types of Kubernetes, Compose and BuildKit are no dependencies of the product. -count=1, because
# the cache of tests does not see files outside of the module.
.PHONY: manifests
manifests: ## the Dockerfile, and the files of deploy/ for Compose, Kubernetes and systemd
	@echo "== manifests"
	cd test/manifests && $(GO) vet ./... && $(GO) test -count=1 -timeout 5m ./...

.PHONY: e2e
e2e: tools ## end-to-end tests only: official clients, Node.js peers, a real redis-server, nginx and HAProxy
	@echo "== end-to-end tests"
	EDGE_E2E=required $(GO) test -count=1 -timeout 10m ./test

.PHONY: test-system
test-system: tools system-programs ## what takes long or needs more: Prometheus, a browser, Sentinel, rolling restarts, hostile clients (6 minutes)
	@echo "== system tests"
	EDGE_E2E=required EDGE_SYSTEM=required $(GO) test -count=1 -timeout 40m -v -run '^TestSystem' ./test
	@echo "== rolling restarts behind HAProxy"
	$(GO) run ./bench -scenario chaos-drain
	@echo "== hostile clients"
	$(GO) run ./bench -scenario hostile -for 1m

.PHONY: lint
lint: ## golangci-lint if it is installed, else go vet and gofmt
	@if command -v golangci-lint >/dev/null; then \
		golangci-lint run ./...; \
	else \
		echo "golangci-lint is not installed (https://golangci-lint.run): running go vet and gofmt instead"; \
		$(MAKE) --no-print-directory vet gofmt; \
	fi

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@for package in $$($(GO) list ./...); do \
		listed=$$($(GO) test -list '^Fuzz' $$package); \
		for target in $$(grep '^Fuzz' <<<"$$listed" || true); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# Every target for a moment, two at a time: seeds, and what is a few steps from them. An instrumented build of each package
# comes first, which takes a minute when the build cache has none.
# Inputs, not seconds: a run that ends by the clock fails now and then for that alone (go.dev/issue/75804).
FUZZSHORT ?= 1000x
.PHONY: fuzz-short
fuzz-short: ## each fuzz target for FUZZSHORT (1000x: inputs)
	@echo "== fuzz targets, $(FUZZSHORT) each"
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	for package in $$($(GO) list -f '{{.Dir}}' ./...); do \
		targets=$$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing.F).*/\1/p' $$(find $$package -maxdepth 1 -name '*_test.go') </dev/null); \
		[ -n "$$targets" ] || continue; \
		bin=$$dir/$$(tr / _ <<<"$$package"); \
		$(GO) test -c -fuzz . -o $$bin $$package; \
		for target in $$targets; do echo "$$package $$bin $$target"; done >>$$dir/list; \
	done; \
	<$$dir/list xargs -P 2 -L 1 bash -c 'cd $$0; \
		"$$1" -test.run "^$$2\$$" -test.fuzz "^$$2\$$" -test.fuzztime $(FUZZSHORT) -test.parallel 1 -test.fuzzcachedir '$$dir'/$$2 >"$$1-$$2" 2>&1 || \
		{ cat "$$1-$$2"; echo "$$2 failed in $$0" >&2; exit 255; }'; \
	echo "$$(wc -l <$$dir/list) targets"

GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
.PHONY: vuln
vuln: ## known vulnerabilities in what is called of Go and of the modules; needs https://vuln.go.dev
	@if out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1); then \
		printf '%s\n' "$$out"; \
	elif grep -qE 'fetching vulnerabilities|(proxy|vuln)\.go[a-z]*\.[a-z]+.*(no such host|dial tcp|i/o timeout)|module lookup disabled' <<<"$$out"; then \
		printf '%s\n' "$$out" >&2; \
		echo "skipped: nothing was checked, for the database of vulnerabilities (https://vuln.go.dev), or the tool that reads it, cannot be reached from here"; \
	else \
		printf '%s\n' "$$out" >&2; exit 1; \
	fi

##@ Measure
.PHONY: bench
bench: observer ## 5,000 connections with continuous broadcast to shared rooms, on edge nodes
	$(GO) run ./bench

# The observer of presence is a Node.js process; without npm, or without a network, the load test goes on without it.
.PHONY: observer
observer:
	@if command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory bench/node/node_modules/.package-lock.json || \
			echo "npm ci failed in bench/node: no independent observer of presence" >&2; \
	fi

.PHONY: bench-node
bench-node: bench/node/node_modules/.package-lock.json ## three rates on the edge and on the Node.js reference system, side by side (8 minutes)
	$(GO) run ./bench -system both -rates 100,400,700

# For benchstat (golang.org/x/perf/cmd/benchstat): make bench-go > old.txt, change something, make bench-go > new.txt,
# benchstat old.txt new.txt.
.PHONY: bench-go
bench-go: ## the Go benchmarks beside the hot code, six times each, for benchstat (BENCH=regexp, BENCHPKG=packages)
	@$(GO) test -run '^$$' -bench '$(BENCH)' -count 6 $(BENCHPKG)

.PHONY: bench-compare
bench-compare: bench/node/node_modules/.package-lock.json ## the edge against Node.js in five scenarios, three trials each: ratios and targets (40 minutes; FLAGS=-quick: 5)
	$(GO) run ./bench -scenario compare $(FLAGS)

.PHONY: bench-idle
bench-idle: ## memory per idle connection
	$(GO) run ./bench -scenario idle

.PHONY: bench-loss
bench-loss: ## 50,000 connections lost with three nodes killed at once: how presence becomes right again
	$(GO) run ./bench -scenario loss

.PHONY: bench-heartbeat
bench-heartbeat: ## what an idle node sends to Redis with 1,000 and with 15,000 connections
	$(GO) run ./bench -scenario heartbeat

.PHONY: chaos-presence
chaos-presence: ## kill and cut nodes and Redis, and see whether presence becomes right again (7 minutes)
	$(GO) run ./bench -scenario chaos-presence

.PHONY: chaos-delivery
chaos-delivery: bench/node/node_modules/.package-lock.json ## kill and cut clients, nodes and Redis, and see whether every message comes once; Node.js beside it (15 minutes)
	$(GO) run ./bench -scenario chaos-delivery -system both

.PHONY: chaos-drain
chaos-drain: ## restart three nodes in turn behind HAProxy under 2,000 clients: who is back, what is lost, how evenly they leave (2 minutes)
	$(GO) run ./bench -scenario chaos-drain $(FLAGS)

.PHONY: chaos-hostile
chaos-hostile: ## attackers of every kind for 10 minutes beside 500 clients, who must not notice (FLAGS="-for 1m")
	$(GO) run ./bench -scenario hostile $(FLAGS)

.PHONY: bench-storm
bench-storm: ## 5,000 clients of a node are cut and come back within a second, three times: all back, memory, what the others notice
	$(GO) run ./bench -scenario storm

.PHONY: bench-churn
bench-churn: ## connections that come and go all the time: their price, and whether anything of them stays
	$(GO) run ./bench -scenario churn

.PHONY: bench-recovery
bench-recovery: ## 5,000 clients lose their node and come back at once: how many recovered, how soon, what the others notice
	$(GO) run ./bench -scenario recovery

.PHONY: bench-journal
bench-journal: ## two rates with RECOVERY=on and with RECOVERY=off, side by side: what the journal costs (6 minutes)
	$(GO) run ./bench -scenario journal

.PHONY: bench-coalescing
bench-coalescing: ## four rates with WRITE_DELAY at 0, 10 and 50 ms: what it does to CPU and latency (6 minutes)
	$(GO) run ./bench -scenario coalescing

.PHONY: bench-slow-readers
bench-slow-readers: bench/node/node_modules/.package-lock.json ## 500 of 5,000 connections stop reading: memory, and what the others notice; Node.js beside it (5 minutes)
	$(GO) run ./bench -scenario slow-readers -system both

.PHONY: bench-moves
bench-moves: ## 4,000 clients that poll at one node and upgrade at another, beside others: memory of moved conns, price of a move
	$(GO) run ./bench -scenario moves

##@ Keep house
.PHONY: tools
tools: programs test/node_modules/.package-lock.json ## install what the tests need and this machine lacks

# Installs the Debian packages whose programs are missing: each word is package:program, or a package named like its program.
define install
packages=; PATH="$$PATH:/usr/local/sbin:/usr/sbin"; \
for word in $(1); do command -v "$${word#*:}" >/dev/null || packages="$$packages $${word%:*}"; done; \
[ -n "$$packages" ] || exit 0; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "== installing$$packages"; \
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; } || \
		{ echo "apt-get could not install$$packages; the tests need them" >&2; exit 1; }; \
else \
	echo "missing:$$packages. The tests need them; as root on Debian: apt-get install$$packages" >&2; \
	exit 1; \
fi
endef

# apt starts the services it installs on some machines; the tests use ports of their own and never touch those.
.PHONY: programs
programs:
	@command -v $(GO) >/dev/null || { echo "go is missing: install Go 1.26 or newer, https://go.dev/dl/" >&2; exit 1; }
	@$(call install,redis-server nginx haproxy openssl nodejs:node npm)
	@major=$$(node -p 'process.versions.node.split(".")[0]'); \
	if [ "$$major" -lt 20 ]; then echo "node $$major is too old: the end-to-end tests need 20 or newer, https://nodejs.org" >&2; exit 1; fi

.PHONY: system-programs
system-programs:
	@$(call install,prometheus chromium)

%/node_modules/.package-lock.json: %/package.json %/package-lock.json %/.npmrc
	@echo "== npm ci in $*"
	@cd $* && npm ci --loglevel=error
	@touch $@

.PHONY: clean
clean: ## remove what was built
	rm -rf bin out
	$(GO) clean -testcache
