# Everything is built into the checkout: environments in .venv*, tools in .bin, stamps and caches in build/.
# `make help` lists what there is to do; `eval "$(make env)"` gives a shell the same environment as the recipes.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# uv trusts the system's certificates (its own list refuses some proxies) and never fetches an interpreter.
export UV_SYSTEM_CERTS := 1
export UV_PYTHON_DOWNLOADS := never
export SOLCX_BINARY_PATH := $(CURDIR)/.solcx
export APE_DATA_FOLDER := $(CURDIR)/build/ape
# Where it is set, each of the many processes that tests start would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.bin:$(CURDIR)/.tools/bin:$(PATH)
export PATH

UV := .tools/bin/uv
PY := .venv/bin/python
# Environments hold absolute paths, so a checkout that was copied or moved has no valid stamp and builds its own.
S := build/stamps/$(shell pwd | cksum | cut -d' ' -f1)
# A stamp does not outlive what it stands for.
$(shell for e in .tools .venv .venv-ape .venv-slither; do [ -x $$e/bin/python ] || rm -f $(S)/$$e; done; \
        [ -x .venv/bin/python ] || rm -f $(S)/ballotboard $(S)/native; \
        [ -d node_modules ] && [ -d .bin ] && [ -d .solcx ] || rm -f $(S)/node)

NATIVE := $(wildcard native/Cargo.toml)
NATIVE_SOURCES := $(shell [ -d native ] && find native -name target -prune -o -name '*.so' -prune -o -type f -print)
CONTRACT_TESTS := $(shell [ -d tests/contracts ] && find tests/contracts -name 'test_*.py')

## setup: the main environment, the EVM tools and the Rust extension
.PHONY: setup
setup: $(S)/ballotboard $(S)/node native

## setup-ape: the environment of the contract tests
.PHONY: setup-ape
setup-ape: $(S)/.venv-ape $(S)/node

## demo: a whole election on this machine
.PHONY: demo
demo: setup
	.venv/bin/ballotboard demo

## test: everything CI runs (`make -k test` goes on after a failure)
# Three for two cores, since many tests wait for processes; tests/conftest.py has their order.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder
.PHONY: test test-ready test-packages test-imports test-style test-native test-python test-together test-programs test-contracts
test: test-ready test-imports test-style test-together test-programs

# Downloads beside compilers.
test-ready:
	$(MAKE) -j4 --output-sync=target setup setup-ape test-packages $(VALIDATOR_PROGRAMS)

test-packages:
	@tools/test-packages

# What the extension's tests need is time on a processor, which the others leave over while they wait.
test-together:
	$(MAKE) -j2 test-native test-python

test-imports: setup
	lint-imports --no-logo

test-style: setup
	ruff check .

test-native: setup
ifneq ($(NATIVE),)
	@cd native && out=$$(nice ../tools/with-cargo cargo test --release --quiet 2>&1) && status=0 || status=$$?; \
	echo "$$out"; [ $$status = 0 ] || [ $$status = 3 ]
endif

test-python: setup test-packages
	$(PY) -m pytest $(SIDE_BY_SIDE) -m "not soak"

# The contract tests keep one core busy, the validator's wait for geth most of the time.
test-programs: setup setup-ape
	$(MAKE) -j2 --output-sync=target test-contracts $(VALIDATOR_TESTS)

test-contracts: setup setup-ape
ifneq ($(CONTRACT_TESTS),)
	.venv-ape/bin/ape test tests/contracts
endif

## test-fast: what to run between two edits, in under 90 seconds
.PHONY: test-fast
test-fast: setup
	$(PY) -m pytest -n 2 -q -m "not slow and not e2e and not soak"

## soak: the tests that run for minutes to hours
.PHONY: soak
soak: setup setup-ape
	$(PY) -m pytest -m soak
	BALLOTBOARD_CONTRACT_EXAMPLES=2000 .venv-ape/bin/ape test tests/contracts/test_properties.py

## mutation: switch off every check and every rejecting branch of the verifier, and see the tamper corpus notice
.PHONY: mutation
mutation: setup
	$(PY) -m scripts.mutation

## bench: every benchmark, or one: make bench ONLY=crypto
.PHONY: bench
bench: setup
	$(PY) -m scripts.bench $(ONLY)

## bench-plots: how the national figures grow with size, as PNG and SVG into build/bench/plots
.PHONY: bench-plots
bench-plots: setup
	$(PY) -m scripts.bench._plots

## lint: style, formatting, types and the arrows between folders
.PHONY: lint
lint: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo

## lint-contracts: solhint and slither, in an environment of their own
.PHONY: lint-contracts
lint-contracts: $(S)/.venv-slither $(S)/node
	tools/lint-contracts

## dist: wheels, sdist, hashes and an SBOM into dist/
.PHONY: dist
dist: setup
	tools/dist

## lock: resolve requirements/*.in again (the only step that changes a version)
.PHONY: lock
lock: $(S)/.tools
	tools/lock

## env: print the environment of the recipes, for eval "$$(make env)"
.PHONY: env
env:
	@for v in PATH SOLCX_BINARY_PATH APE_DATA_FOLDER UV_SYSTEM_CERTS UV_PYTHON_DOWNLOADS; do printf 'export %s=%q\n' "$$v" "$${!v}"; done

## clean: remove everything that make has built
.PHONY: clean
clean:
	rm -rf .venv .venv-ape .venv-slither .tools .bin .solcx node_modules build dist native/target .build
	rm -rf *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name .git -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

## help: this list
.PHONY: help
help:
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# --- how it is built ---

$(S)/.tools: requirements/uv.lock
	@mkdir -p $(S)
	python=$$(tools/preflight) && "$$python" -m venv --clear .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@touch $@

$(S)/.venv: requirements/main.lock $(S)/.tools
$(S)/.venv-ape: requirements/ape.lock $(S)/.tools
$(S)/.venv-slither: requirements/slither.lock $(S)/.tools
$(S)/.venv $(S)/.venv-ape $(S)/.venv-slither:
	[ -e $@ ] || $(UV) venv --quiet --clear --python .tools/bin/python $(@F)
	$(UV) pip sync --quiet --require-hashes --python $(@F)/bin/python $<
	@touch $@

# Apart from the rest, since pyproject.toml is edited oftener than a lock. --no-deps: the lock has them all.
$(S)/ballotboard: pyproject.toml $(S)/.venv
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(PY) --editable .
	@touch $@

$(S)/node: package-lock.json .npmrc tools/link-tools $(S)/.tools
	npm ci --silent
	tools/link-tools
	@touch $@

# No stamp where it was skipped, so that it is built as soon as there is a cargo.
.PHONY: native
ifneq ($(NATIVE),)
native: $(S)/native
$(S)/native: $(NATIVE_SOURCES) tools/build-native tools/with-cargo $(S)/.venv
	@tools/build-native && touch $@ || [ $$? = 3 ]
else
native:
	@echo 'setup: native/ has no Cargo.toml yet: skipped'
endif

# --- the permissioned network (Go): only where there is a Go; nothing else needs it ---

GO_SOURCES := $(shell find chain/validator -name '*.go' ! -name '*_test.go' 2>/dev/null) chain/validator/go.mod chain/validator/go.sum

# The new encoding/json, with the old one's behaviour: a block of 8 MiB crosses the Engine API in a sixth of the time (docs/network.md).
validator .bin/% test-validator: export GOEXPERIMENT := jsonv2

## validator: the validator and geth, into .bin/ (needs Go 1.26; two minutes the first time)
.PHONY: validator
validator: .bin/validator .bin/geth

.bin/validator: $(GO_SOURCES)
	@command -v go >/dev/null || { echo 'validator: there is no Go: install 1.26 or later' >&2; exit 1; }
	cd chain/validator && go build -trimpath -ldflags '-s -w' -o ../../.bin/validator .

# One after the other: each takes all processors, and what the first has compiled the next ones need not.
.bin/geth: chain/validator/go.mod | .bin/validator
	@command -v go >/dev/null || { echo 'validator: there is no Go: install 1.26 or later' >&2; exit 1; }
	cd chain/validator && go build -trimpath -ldflags '-s -w' -o ../../.bin/geth github.com/ethereum/go-ethereum/cmd/geth

# The test build: it proposes what is wrong, and its clock may be (faults.go).
.bin/validator-faults: $(GO_SOURCES) | .bin/geth
	cd chain/validator && go build -trimpath -tags faults -ldflags '-s -w' -o ../../.bin/validator-faults .

## test-validator: the validator's own tests, with a real geth; part of `make test` where there is Go
.PHONY: test-validator
test-validator: validator
	cd chain/validator && go vet -trimpath ./... && go vet -trimpath -tags faults . && go test -trimpath ./...

ifneq ($(shell go version 2>/dev/null | grep -E 'go1\.(2[6-9]|[3-9][0-9])'),)
VALIDATOR_TESTS := test-validator
VALIDATOR_PROGRAMS := validator .bin/validator-faults
test-python: $(VALIDATOR_PROGRAMS)
endif
