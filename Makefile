# Everything a developer, an agent and CI run. Each target sets up what it needs in .venv.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The interpreter that .venv is made from; without one the first of these that is new enough.
PYTHON ?=
# What `make test` does of the full figures; `make test-full` does all of them.
WWS_TEST_SCALE ?= 0.1
# More arguments: make test PYTEST="-k yamux", make demo DEMO="--agents 5", make bench BENCH=--quick
PYTEST ?=
DEMO ?=
BENCH ?=

BIN := .venv/bin
READY := .venv/.ready
RUN_PYTEST = WWS_TEST_SCALE=$(WWS_TEST_SCALE) $(BIN)/python -m pytest -n logical --dist loadgroup --durations=15

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(READY) ## three bootstrap nodes, alice, bob and carol on this machine, on the real stack
	@$(BIN)/wws demo $(DEMO)

.PHONY: check
check: static ## what to run before every commit: format, lint, types, layers, unit and sim tests
	$(RUN_PYTEST) $(wildcard tests/unit tests/contract tests/sim) $(PYTEST)

.PHONY: test
test: ## check, and every other test, in parallel, at a tenth of the full figures
	@$(MAKE) --no-print-directory -j2 static interop-peers pulumi workflow-tools artefact
	$(RUN_PYTEST) tests $(PYTEST)

.PHONY: test-full
test-full: ## the same at the full figures (takes long)
	@$(MAKE) --no-print-directory test WWS_TEST_SCALE=1

.PHONY: bench
bench: $(READY) interop-peers ## one table: ours beside the JavaScript and Go peers
	@$(BIN)/python -m bench $(BENCH)

.PHONY: static
static: format-check lint types imports # all of check that runs no code

.PHONY: format
format: $(READY) ## format the code, and mend what ruff can mend by itself
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

.PHONY: format-check
format-check: $(READY)
	$(BIN)/ruff format --check --quiet . || { echo "not formatted: run make format" >&2; exit 1; }

.PHONY: lint
lint: $(READY)
	$(BIN)/ruff check --quiet .
	@cd ansible && PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint -q --offline

.PHONY: types
types: $(READY)
	$(BIN)/mypy

.PHONY: imports
imports: $(READY)
	PYTHONPATH=infra $(BIN)/lint-imports --no-logo

# The foreign peers are built where their tools are; elsewhere their tests skip and say why.
# In CI that would hide them, so there it is a failure.
.PHONY: interop-peers
interop-peers:
	@test -x tests/interop/build.sh || exit 0; \
	failed=; \
	for pair in js:npm go:go; do \
		peer=$${pair%:*}; tool=$${pair#*:}; \
		if ! command -v $$tool >/dev/null; then \
			echo "no $$tool here: the tests against the $$peer peer will skip" >&2; failed=$$peer; \
		elif ! tests/interop/build.sh $$peer; then \
			echo "the $$peer peer was not built: its tests will skip" >&2; failed=$$peer; \
		fi; \
	done; \
	test -z "$$failed" || test "$${CI:-false}" != true

# The engine of the tests of the stack, in a folder of the user's cache. As with the peers: see above.
.PHONY: pulumi
pulumi:
	@if ! command -v go >/dev/null; then \
		echo "no go here: the tests of the stack will skip" >&2; test "$${CI:-false}" != true; \
	else \
		echo "pulumi: $$(tests/infra/pulumi/build.sh)" || test "$${CI:-false}" != true; \
	fi

# actionlint and act, for the tests of the workflows. As with the peers: see above.
.PHONY: workflow-tools
workflow-tools:
	@if ! command -v go >/dev/null; then \
		echo "no go here: the tests of the workflows will skip" >&2; test "$${CI:-false}" != true; \
	else \
		echo "workflow-tools: $$(scripts/tools.sh)" || test "$${CI:-false}" != true; \
	fi

# What people download, made once for all tests that run it, and only when the sources have changed.
.PHONY: artefact
artefact: $(READY)
	@made=$$($(BIN)/python -c 'from tests.artefact.built import artefact; print(artefact().name)') && \
		echo "artefact: $$made" || \
		{ echo "the artefact was not built: its tests will skip" >&2; test "$${CI:-false}" != true; }

.PHONY: lock
lock: ## renew requirements/*.txt from pyproject.toml (UPGRADE=1: to the newest versions)
	@command -v uv >/dev/null || { echo "make lock needs uv" >&2; exit 1; }
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra agent --extra operator --group dev --output-file requirements/dev.txt pyproject.toml
	$(LOCK) $(SUBSET) --extra agent --output-file requirements/agent.txt pyproject.toml
	$(LOCK) $(SUBSET) --output-file requirements/runtime.txt pyproject.toml
	$(LOCK) $(SUBSET) --extra operator --output-file requirements/operator.txt pyproject.toml

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
# The smaller sets are subsets of the one that is tested.
SUBSET = --constraints requirements/dev.txt --no-annotate $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove .venv and everything that was built
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf tests/interop/peers/.build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- .venv ----------------------------------------------------------------------------------------
# Made from the hash-locked set alone: the project itself is installed editable with the locked
# hatchling, without build isolation, so nothing unlocked is ever downloaded. A .venv that exists is
# kept, and so is what was installed into it by hand.

$(READY): requirements/dev.txt pyproject.toml
	@python="$(PYTHON)"; \
	if test -z "$$python"; then \
		for python in python3 python3.13 python3.12 python3.11 ""; do \
			test -z "$$python" || ! $$python -c '$(NEW_ENOUGH)' 2>/dev/null || break; \
		done; \
	fi; \
	test -n "$$python" || { echo "no Python 3.11 or newer found: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	$$python -c '$(NEW_ENOUGH)' || \
		{ echo "$$python is not Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	if ! $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null; then \
		echo "making .venv with $$python"; \
		python=$$($$python -c 'import sys; print(sys.executable)'); \
		if command -v uv >/dev/null; then uv venv --quiet --clear --python "$$python" .venv; \
		else "$$python" -m venv --clear .venv; fi || exit 1; \
	fi; \
	echo "installing requirements/dev.txt into .venv"; \
	if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } && \
		$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt && \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	fi || exit 1
	@touch $@

NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
