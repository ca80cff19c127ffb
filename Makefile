# make demo | test | check | servers | soak | bench | clean | help. Needs Python 3.11+; everything else goes into .venv.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMP := .venv/.installed
# Two workers are what a small machine runs without its timing tests disturbing each other; files stay whole on
# one worker, so that what a module sets up is set up once. `make test WORKERS=0` runs them in this process.
WORKERS ?= 2
PYTEST_ARGS ?=
export PYTHON

.PHONY: help setup demo test check lint types docs-test servers soak bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The trading bot of the demo needs nothing but this.
demo: $(STAMP) ## watch a bot move from JSON files to SQLite while it trades (under a minute)
	@$(BIN)/gateway demo

test: $(STAMP) ## run every test but the soak tests
	@scripts/servers.sh
	@$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

check: lint types docs-test ## style, types and documentation

lint: $(STAMP) ## ruff: rules and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(STAMP) ## mypy (strict) and pyright
	@$(BIN)/mypy
	@$(BIN)/mypy conftest.py scripts tests $(if $(wildcard benchmarks/*.py),benchmarks)
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

docs-test: $(STAMP) ## the documentation against the code
	@$(BIN)/python -m pytest tests/docs -q $(PYTEST_ARGS)

servers: $(STAMP) ## start the real servers that tests run on, and wait for Ctrl-C
	@scripts/servers.sh
	@$(BIN)/python -m tests.servers

soak: $(STAMP) ## the long tests
	@scripts/servers.sh
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(PYTEST_ARGS)

bench: $(STAMP) ## measure against hand-written code and print the tables of docs/benchmarks.md
	@scripts/servers.sh
	@$(BIN)/python -m benchmarks

setup: $(STAMP) ## make .venv, or bring it up to date

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh
	@touch $@

clean: ## remove .venv, caches and build results; stored data stays
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
