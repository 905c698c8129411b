# temporal-redis. `make` alone tells what there is.

# Nothing of the user's Temporal or Redis reaches a test or the demo by the
# environment; flags do (make demo ARGS="--redis URL").
$(foreach name,$(filter TEMPORAL_% REDIS_%,$(.VARIABLES)),$(eval unexport $(name)))

# Each module stands alone.
export GOWORK := off
# Where Go and brew often are, for shells that do not know.
export PATH := $(PATH):/usr/local/go/bin:/opt/homebrew/bin

MODULES := $(patsubst %/go.mod,%,$(filter-out tools/%,$(wildcard ./go.mod */go.mod */*/go.mod)))
# $$PPID in a recipe is make itself.
BOUND := BOUND_TO=$$PPID $(CURDIR)/scripts/bound.sh
# Not `go run`: a kill would end that and leave the program.
DEPS := mkdir -p .build && go build -o .build/deps ./internal/deps && $(BOUND) .build/deps
LINT := $(CURDIR)/bin/golangci-lint
WORKFLOWCHECK := $(CURDIR)/bin/workflowcheck
TEST_TIMEOUT ?= 10m
# Integration tests wait for servers most of the time: more of them than there
# are processors run at once.
PARALLEL ?= 4

# in-modules COMMAND: runs it in each module, up to the first failure.
in-modules = @for module in $(MODULES); do \
	echo "[$$module] $(strip $(1))"; \
	( cd "$$module" && $(1) ) || exit 1; \
	done

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps share a machine and a terminal, and their order matters.
.NOTPARALLEL:
.SUFFIXES:

.PHONY: help
help: ## this list
	@echo "make demo [ARGS=...] and make test install what they need; git, make and Go >= 1.26 are yours to bring."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

##@ The two commands

.PHONY: demo
demo: deps-demo ## a workflow on a real dev server, live in the terminal (ARGS="FILE.yaml", ARGS="--redis URL --temporal ADDR", ARGS=--chaos)
	@echo "building the demo"
	@mkdir -p .build && go build -o .build/audit ./examples/audit
	@$(BOUND) .build/audit $(ARGS)

.PHONY: test
test: deps-test lint vet race-others integration ## all of it, as CI does, one after the other

##@ Set-up

.PHONY: prerequisites
prerequisites:
	@scripts/prerequisites.sh

.PHONY: deps-demo
deps-demo: prerequisites ## find or install what the demo needs: a Temporal dev server
	@scripts/deps.sh $(if $(findstring -chaos,$(ARGS)),redis-server)
	@$(DEPS) temporal

.PHONY: deps-test
deps-test: prerequisites ## find or install what the tests need: dev server, redis-server, PostgreSQL, C compiler
	@scripts/deps.sh redis-server postgresql cc
	@$(DEPS) temporal

.PHONY: deps-lint
deps-lint: prerequisites $(LINT) $(WORKFLOWCHECK) ## build the pinned linters into bin/

$(LINT): TOOL := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(WORKFLOWCHECK): TOOL := go.temporal.io/sdk/contrib/tools/workflowcheck
$(LINT) $(WORKFLOWCHECK): tools/lint/go.mod tools/lint/go.sum
	@mkdir -p bin
	@echo "building $(@F) from tools/lint (a minute or two)"
	@cd tools/lint && go build -mod=readonly -trimpath -ldflags='-s -w' -o "$@.tmp" $(TOOL)
	@mv -f "$@.tmp" "$@"

##@ Checks

.PHONY: lint
lint: deps-lint ## golangci-lint (imports' direction by depguard), Temporal's workflowcheck, tidy go.mod
	$(call in-modules,$(LINT) run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...)
	$(call in-modules,$(WORKFLOWCHECK) ./...)
	@$(MAKE) --no-print-directory tidy-check

.PHONY: fmt
fmt: deps-lint ## format all Go code
	$(call in-modules,$(LINT) fmt --config $(CURDIR)/.golangci.yml ./...)

.PHONY: vet
vet: prerequisites ## go vet, with and without the integration tests
	$(call in-modules,go vet ./... && go vet -tags integration ./...)

.PHONY: tidy-check
tidy-check: prerequisites ## go.mod and go.sum say what the code needs
	$(call in-modules,go mod tidy -diff)

##@ Tests

.PHONY: unit
unit: prerequisites ## unit tests: no server, no network
	$(call in-modules,$(BOUND) go test -timeout $(TEST_TIMEOUT) ./...)

.PHONY: race
race: prerequisites ## the unit tests under the race detector
	$(call in-modules,CGO_ENABLED=1 $(BOUND) go test -race -timeout $(TEST_TIMEOUT) ./...)

# Packages with integration tests run their unit tests along with them, under
# the race detector too: `make test` runs each test once, not twice.
.PHONY: race-others
race-others: prerequisites
	$(call in-modules,CGO_ENABLED=1 $(BOUND) $(CURDIR)/scripts/integration.sh -others -race -timeout $(TEST_TIMEOUT))

.PHONY: integration
integration: integration-warm integration-cold ## tests on real servers: under the race detector, and again without Temporal's sticky cache

.PHONY: integration-warm
integration-warm: prerequisites
	$(call in-modules,CGO_ENABLED=1 $(BOUND) $(CURDIR)/scripts/integration.sh -race -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT))

# Without the sticky cache each workflow task replays the history from its
# start: what is not deterministic shows. Only tests with a Temporal server care.
# The race detector, which doubles the time, has seen all of them once before.
.PHONY: integration-cold
integration-cold: prerequisites
	$(call in-modules,TEMPORAL_REDIS_TEST_STICKY=0 $(BOUND) $(CURDIR)/scripts/integration.sh -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT))

# By number: at the end of a time Go fails now and then by its own deadline.
FUZZ ?= 200000x
.PHONY: fuzz
fuzz: prerequisites ## what decoders and parsers make of nonsense, each so often (FUZZ=2000000x); make test runs their seeds
	$(call in-modules,$(BOUND) $(CURDIR)/scripts/fuzz.sh $(FUZZ))

##@ Benchmarks

BENCH ?=
.PHONY: bench
bench: prerequisites ## peers side by side, minutes (BENCH=config or a row's key, ARGS="-quick"); docs/benchmarks.md
	@scripts/deps.sh redis-server
	@mkdir -p .build && cd bench && go build -o ../.build/bench .
	@cd bench && $(BOUND) ../.build/bench -run '$(BENCH)' $(ARGS)

##@ Tidying up

.PHONY: clean
clean: ## remove what was built, the tools included
	rm -rf bin .build
