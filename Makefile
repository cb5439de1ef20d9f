# Two commands are all a newcomer needs: `make run` and `make test`. Both work
# as root and as a plain user, from a fresh clone, with nothing exported.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GOLANGCI_LINT_VERSION := v2.15.0
BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da

# Where the Go toolchain is usually unpacked, for shells that do not know it.
export PATH := $(PATH):/usr/local/go/bin
# Without a home directory to write to, Go's caches live in the checkout.
ifneq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.cache/home
export GOFLAGS += -modcacherw
endif

# The race detector needs a C compiler; without one the tests run without it.
RACE := $(shell PATH="$(PATH)"; command -v "$$(go env CC 2>/dev/null)" >/dev/null 2>&1 && echo -race)
# In a clone that git does not trust, as one made by another user, the revision
# cannot be stamped into the binary.
BUILDVCS := $(shell git status >/dev/null 2>&1 || echo -buildvcs=false)
PACKAGES ?= ./...
GOLANGCI_LINT := bin/tools/golangci-lint-$(GOLANGCI_LINT_VERSION)

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: postgres build ## build, then start PostgreSQL, the sandbox push APIs and the daemon
	@exec bin/scheduler serve

# A process with the race detector waits a second before it ends, for reports of
# other threads; there is one for each package.
.PHONY: test
test: test-packages ## run the whole test suite, or that of PACKAGES="./store/... …"
	@test -n "$(RACE)" || echo "No C compiler: the tests run without the race detector."
	GORACE="atexit_sleep_ms=10 $$GORACE" go test $(RACE) -timeout 20m $(PACKAGES)
	@echo "All tests passed."

.PHONY: clients
clients: postgres ## have Alibaba Cloud's own clients schedule, list and cancel
	cd internal/api/clients && go test -count=1 -timeout 10m ./...

.PHONY: chaos
chaos: postgres ## break everything under load for DURATION=2m, with SEEDS=1,2
	go run ./internal/chaos/cmd -duration $(or $(DURATION),2m) -seeds "$(SEEDS)"

.PHONY: chaos-mutants
chaos-mutants: postgres ## show that the harness finds deliberate breaks
	go run ./internal/chaos/cmd -mutant all -duration $(or $(DURATION),60s) -seeds "$(or $(SEEDS),1,2,3)"

.PHONY: build
build: check-go ## build bin/scheduler, a static binary
	CGO_ENABLED=0 go build -trimpath $(BUILDVCS) -o bin/scheduler ./cmd/scheduler

.PHONY: vet
vet: check-go ## look for mistakes that the compiler lets pass
	go vet ./...

.PHONY: lint
lint: check-go $(GOLANGCI_LINT) ## check style and mistakes
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd bench && ../$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd internal/api/clients && ../../../$(GOLANGCI_LINT) run --allow-parallel-runners ./...

.PHONY: fmt
fmt: check-go $(GOLANGCI_LINT) ## format the code
	$(GOLANGCI_LINT) fmt ./...
	cd bench && ../$(GOLANGCI_LINT) fmt ./...
	cd internal/api/clients && ../../../$(GOLANGCI_LINT) fmt ./...

.PHONY: tools
tools: check-go $(GOLANGCI_LINT) ## build the pinned linter into bin/tools

.PHONY: bench
bench: postgres ## measure beside the peers and the limits, in some 20 minutes; BENCH="-short" tries it
	cd bench && go run $(BUILDVCS) . $(BENCH)

.PHONY: bench-micro
bench-micro: check-go ## run the micro-benchmarks, and compare them with the run before
	@mkdir -p bin
	@test ! -f bin/bench-micro.txt || mv bin/bench-micro.txt bin/bench-micro.before.txt
	go test -run '^$$' -bench . -benchmem -count 6 ./strategy ./dispatch/... > bin/bench-micro.txt
	@go run golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION) $$(ls bin/bench-micro.before.txt 2>/dev/null) bin/bench-micro.txt

.PHONY: deps
deps: check-go ## list the direct dependencies: version, date, licence
	@go run $(BUILDVCS) ./internal/deps

.PHONY: clean
clean: ## remove what was built; data directories stay
	rm -rf bin

$(GOLANGCI_LINT):
	@echo "Building golangci-lint $(GOLANGCI_LINT_VERSION), once; it takes some minutes."
	@GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv bin/tools/golangci-lint $@

.PHONY: check-go
check-go:
	@command -v go >/dev/null || { echo "Go is not installed; get it from https://go.dev/dl/ (1.26 or later)." >&2; exit 1; }

.PHONY: postgres
postgres: check-go
	@scripts/ensure-packages

.PHONY: test-packages
test-packages: check-go
	@scripts/ensure-packages tests
