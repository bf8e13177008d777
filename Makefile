# HybridGW: every verb sets up what it needs by itself. `make help` lists them.
# Only Python 3.11 or newer is needed: `make PYTHON=/path/to/python3.12 test` names another one.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
# Test workers; 4 on two cores, for many tests wait for a process, a browser or a network. `make test JOBS=0` runs in one process.
JOBS ?= 4
# More arguments for pytest: `make test ARGS='-k merge -x'`.
ARGS ?=
# Bytecode is kept, also where the machine says otherwise: else each of the many processes of a run compiles all it loads.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## list these verbs
	@printf 'HybridGW. make VERB, where VERB is one of\n\n'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' Makefile
	@printf '\nEach sets up .venv by itself. Variables: PYTHON (%s), JOBS (%s), ARGS, DATA (for demo).\n' '$(PYTHON)' '$(JOBS)'

.PHONY: setup
setup: ## make .venv from requirements.lock; does nothing when nothing changed
	@PYTHON='$(PYTHON)' bash scripts/setup.sh

.PHONY: parts
parts: setup
	@bash scripts/apt-test-packages.sh

.PHONY: run
run: setup ## start a daemon and say what to do next
	@$(BIN)/hybridgw up $(ARGS) || [ $$? = 4 ]
	@printf '\nThese commands are in %s (source .venv/bin/activate).\n' '$(CURDIR)/$(BIN)'
	@printf 'hybridgw down stops the daemon, hybridgw paths says where your data is.\n'

.PHONY: demo
demo: setup ## a relay and two devices on this machine, with real data; DATA=FILE for your own
	@$(BIN)/python scripts/demo.py $(if $(DATA),--data '$(DATA)') $(ARGS)

.PHONY: dev
dev: setup ## a daemon in development mode, in the foreground, with its own profile in .run/dev
	@HYBRIDGW_HOME='$(CURDIR)/.run/dev' HYBRIDGW_ENVIRONMENT=development HYBRIDGW_DEBUG=true $(BIN)/hybridgw-daemon $(ARGS)

.PHONY: test
test: parts ## everything that must pass, under 12 minutes on 2 cores
	@$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

.PHONY: quick
quick: setup ## unit and contract tests without the slow ones, seconds
	@$(BIN)/pytest -q -n $(JOBS) --dist worksteal -m 'not soak and not slow' tests/unit tests/contract $(ARGS)

.PHONY: soak
soak: parts ## the long runs: ten times the histories, seeds and kills of `make test`
	@HYBRIDGW_SCALE=10 HYPOTHESIS_PROFILE=soak $(BIN)/pytest -n $(JOBS) --dist worksteal -m soak --timeout=0 $(ARGS)

.PHONY: lint
lint: setup ## style, types, import rules, spelling, package data and golden bytes
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(BIN)/validate-pyproject pyproject.toml
	@$(BIN)/python -m tools.vectors --check
	@$(BIN)/pytest -q tests/architecture/test_tree.py

.PHONY: fix
fix: setup ## repair what can be repaired: order of imports, format, spelling
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
	@$(BIN)/codespell --write-changes

.PHONY: vectors
vectors: setup ## write protocol/vectors/*.json from the code
	@$(BIN)/python -m tools.vectors

.PHONY: bench
bench: setup ## all figures, each beside the raw limit of this machine; JSON in bench-results/
	@$(BIN)/python -m bench $(ARGS)

.PHONY: js
js: ## build the JavaScript client into clients/js/dist (needs Node 20)
	@bash scripts/js.sh

.PHONY: dashboard
dashboard: ## build the dashboard into hybridgw_daemon/static, which is committed (needs Node 20)
	@bash scripts/js.sh dashboard

.PHONY: pictures
pictures: parts ## make the pictures in docs/assets anew, of the dashboard and the extension (needs Node 20 and Chromium)
	@mkdir -p docs/assets/dashboard docs/assets/extension
	@HYBRIDGW_DOC_PICTURES=1 $(BIN)/pytest -q tests/clients/test_dashboard.py tests/clients/test_dashboard_people.py tests/clients/test_extension.py -k 'both_themes or two_people' $(ARGS)

.PHONY: extension
extension: ## build the browser extension, unpacked and as both store packages, and lint these (needs Node 20)
	@bash scripts/js.sh extension

.PHONY: coverage
coverage: parts ## run the tests with branch coverage; report in htmlcov/index.html
	@$(BIN)/pytest -n $(JOBS) --cov --cov-branch --cov-report=html --cov-report=term:skip-covered $(ARGS)

.PHONY: docs
docs: setup ## run every command that README and docs show, and check their links
	@$(BIN)/pytest -q tests/docs tests/architecture/test_docs.py $(ARGS)

.PHONY: lock
lock: setup ## write requirements.lock anew from pyproject.toml (needs uv)
	@bash scripts/lock.sh

.PHONY: clean
clean: ## remove what the verbs above made, .venv included (never a profile outside this folder)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov dist build bench-results test-artifacts .demo .run clients/node_modules clients/js/dist clients/extension/dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
