# make demo | test | check | servers | soak | bench | clean | help. Needs Python 3.11+; everything else goes into .venv.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMP := .venv/.installed
# Three workers are what a machine with two cores runs without its timing tests disturbing each other; how they share
# the tests is told in tests/workers.py. `make test WORKERS=0` runs them in this process.
WORKERS ?= 3
PYTEST_ARGS ?=
export PYTHON
# The tests start hundreds of processes, and each would compile all of the gateway again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test check lint types mypy pyright docs-test servers soak bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The trading bot of the demo needs nothing but this.
demo: $(STAMP) ## watch a bot move from JSON files to SQLite while it trades (under a minute)
	@$(BIN)/gateway demo

test: $(STAMP) ## run every test but the soak tests
	@scripts/servers.sh
	@$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

check: $(STAMP) ## style, types and documentation
	@$(MAKE) --jobs=2 --output-sync=target lint mypy pyright docs-test

lint: $(STAMP) ## ruff: rules and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: mypy pyright ## both type checkers

mypy: $(STAMP) ## mypy (strict)
	@$(BIN)/mypy
	@$(BIN)/mypy conftest.py scripts tests $(if $(wildcard benchmarks/*.py),benchmarks)

pyright: $(STAMP) ## pyright
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

docs-test: $(STAMP) ## the documentation against the code; its examples are run by `make test`
	@$(BIN)/python -m pytest tests/docs -q --ignore=tests/docs/test_examples.py $(PYTEST_ARGS)

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
