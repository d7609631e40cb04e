# Two commands: `make search` sets up everything and runs the main job; `make test` sets up and passes the tests.
# Both need only Python 3.11+, git and make. PYTHON=... chooses another interpreter, STUDY=... names the search,
# JOBS=... says how many processes run the tests (one a core, 0 for none beside the runner), ARGS=... goes to pytest.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
STUDY ?=
JOBS ?= auto
PYTEST = -m pytest -n $(JOBS) --maxprocesses 8 --dist loadgroup --no-loadscope-reorder --durations 15

.PHONY: help search test lint format types clean
help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with the venv module was found; install one or give PYTHON=..." >&2; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp for each set of extras: made again only when the dependencies change.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the program (the first time takes a minute or two: torch and ray are large)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the program, the tests' and the developers' tools"
	@$(PIP) -e '.[dev]'
	@touch $(VENV)/.run $(VENV)/.test $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the program and the tests' tools (the first time takes a minute or two)"
	@$(PIP) -e '.[test]'
	@touch $(VENV)/.run $@

data/small/dataset.json: | $(VENV)/.run
	@$(BIN)/tuner data synthetic small --out data/small

search: $(VENV)/.run data/small/dataset.json ## set up, make synthetic data, run the quickstart search, print the table
	@$(BIN)/tuner search quickstart --data data/small $(if $(STUDY),--study $(STUDY))

test: $(VENV)/.test ## set up and run the whole test suite
	@$(BIN)/python $(PYTEST) $(ARGS)

lint: $(VENV)/.dev ## ruff: lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/.dev ## ruff: mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(VENV)/.dev ## mypy on the four rooms
	@$(BIN)/mypy

clean: ## remove the environment and caches (data and studies stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
