# Two commands: `make search` sets up everything and runs the main job; `make test` sets up and passes the tests.
# Both need only Python 3.11+, git and make. PYTHON=... chooses another interpreter, STUDY=... names the search,
# JOBS=... says how many processes run the tests (0 for none beside the runner), ARGS=... goes to pytest.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN = $(VENV)/bin
CONSTRAINTS := constraints.txt
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet $(CONSTRAINTS:%=-c %)
STUDY ?=
# One more than there are cores, for some wait: for Ray to come up, for a process to end.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN || echo 1); echo $$((n < 8 ? n + 1 : 8)))
PYTEST = -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 15

# What a version can break. Left out: what starts clusters or browsers, the benchmarks, and what looks at the checkout.
CORE = $(addprefix --ignore tests/,cluster test_chaos.py test_benchmarks.py test_stopping_benchmark.py \
	test_searchers_benchmark.py test_rivals.py test_deploy.py test_package.py test_docs.py test_architecture.py test_mutants.py \
	test_fuzz.py results/test_report_browser.py tuner/backend/test_nodes.py tuner/backend/test_jobs.py)
# ONLY=setup makes the environment and stops there.
OTHER = $(MAKE) --no-print-directory $(or $(ONLY),test) ARGS="$(CORE) $(ARGS)"

.PHONY: help search setup test test-oldest test-python mutants lint format types lock clean
help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with the venv module was found; install one or give PYTHON=..." >&2; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp for each set of extras: made again only when the dependencies change.
$(VENV)/.run: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing the program (the first time takes a minute or two: torch and ray are large)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing the program, the tests' and the developers' tools"
	@$(PIP) -e '.[dev]'
	@touch $(VENV)/.run $(VENV)/.test $@

$(VENV)/.test: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing the program and the tests' tools (the first time takes a minute or two)"
	@if [ "$(TORCH)" = no ]; then \
		$(BIN)/python .ci/lock.py --without torch > $(VENV)/asked.txt && $(PIP) -r $(VENV)/asked.txt && $(PIP) --no-deps -e .; \
	else $(PIP) -e '.[test]'; fi
	@touch $(VENV)/.run $@

data/small/dataset.json: | $(VENV)/.run
	@$(BIN)/tuner data synthetic small --out data/small

search: $(VENV)/.run data/small/dataset.json ## set up, make synthetic data, run the quickstart search, print the table
	@$(BIN)/tuner search quickstart --data data/small $(if $(STUDY),--study $(STUDY))

setup: $(VENV)/.test

test: $(VENV)/.test ## set up and run the whole test suite
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python $(PYTEST) $(ARGS)

test-oldest: ## the core of the suite with the oldest versions that pyproject.toml allows (torch apart: constraints-oldest.txt says why)
	@$(OTHER) VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

test-python: ## the core with another Python, PYTHON=python3.13; TORCH=no goes without what needs torch (a download of 3 GB)
	@$(OTHER) VENV=.venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')$(TORCH:%=-torch-%) \
		PYTHON=$(PYTHON) TORCH=$(TORCH)

mutants: $(VENV)/.test ## change the core in 200 small ways and see that tests fail (SEED=1 for others, ARGS="--help" for more)
	@$(BIN)/python benchmarks/mutants.py --seed $(or $(SEED),0) $(ARGS)

lint: $(VENV)/.dev ## ruff: lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/.dev ## ruff: mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(VENV)/.dev ## mypy on the four rooms
	@$(BIN)/mypy

lock: $(VENV)/.dev ## renew constraints.txt and constraints-oldest.txt (CONSTRAINTS= for the newest of everything)
	@$(BIN)/python .ci/lock.py $(CONSTRAINTS)

clean: ## remove the environment and caches (data and studies stay)
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
