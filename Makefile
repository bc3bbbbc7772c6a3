# Run `make` alone for the list of targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Packages belong to one interpreter: for another one they are installed again.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
RUNTIME := $(VENV)/runtime-$(PYTHON_VERSION).installed
DEVELOP := $(VENV)/develop-$(PYTHON_VERSION).installed

.DEFAULT_GOAL := help
.PHONY: help run check coverage screenshot bench format pins clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up down stop logs test smoke
# Includes the monitoring, if it was started.
down stop: export COMPOSE_PROFILES := *

up: ## Build and start the service in Docker, on http://localhost:8000; needs WEBHOOK_SECRET
	@./.stack.sh claim
	docker compose up -d --build --wait || ./.stack.sh explain
	@echo "The service is ready on $$(./.stack.sh address) (make logs: what it does, make stop: end it)."

down: ## Stop it and DELETE its data
	@./.stack.sh contents
	docker compose down -v
	@echo "The stack is removed, and all its data."

stop: ## Stop it and keep its data
	docker compose stop
	@echo "The service is stopped, its data kept (make up: start it again)."

logs: ## Follow its log: readable on a terminal, JSON elsewhere
	@if [ -t 1 ] && [ -n "$(PYTHON_VERSION)" ]; then \
		docker compose logs -f --no-log-prefix api | $(PYTHON) -I webhook_api/cli/readable.py; \
	else \
		docker compose logs -f api; \
	fi

test: ## Run the tests in the container
	docker compose run --rm --build test

smoke: ## Play the specification's evaluation on a stack of its own, on PORT; needs curl and jq
	tests/tools/smoke.sh

run: $(RUNTIME) ## Serve on http://localhost:8000 without Docker; needs WEBHOOK_SECRET
	$(BIN)/python -m webhook_api

check: $(DEVELOP) ## Lint, check types and run the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/pytest -n auto --dist worksteal

coverage: $(DEVELOP) ## Run the tests and list the lines and branches that none of them runs
	@# Of 3.11, a process may loop for ever when a thread ends while it is traced.
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
		echo "Python 3.12 or later is needed to measure coverage: make coverage PYTHON=python3.13" >&2; exit 1; }
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term-missing:skip-covered

screenshot: $(DEVELOP) ## Make the README's picture of the inbox again; needs Chromium
	$(BIN)/python -m tests.tools.screenshot

bench: $(DEVELOP) ## Measure writes, requests and reads; needs wrk and a C compiler, takes ten minutes
	$(BIN)/python -m tests.tools.benchmarks.writes
	$(BIN)/python -m tests.tools.benchmarks.cost
	$(BIN)/python -m tests.tools.benchmarks.writes --compare index --connections 32 --fsync-ms 0
	$(BIN)/python -m tests.tools.benchmarks.reads

format: $(DEVELOP) ## Format the code and sort the imports
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

pins: ## Resolve the pinned dependencies again; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make pins' \
		--output-file requirements.txt .requirements.in
	@# The pins must have the extras that dependencies ask for: else pip looks for the newest version.
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make pins' \
		--output-file tests/requirements.txt tests/requirements.in

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(RUNTIME): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or later is needed, and $(PYTHON) is $(or $(PYTHON_VERSION),not there): name another one, as in make run PYTHON=python3.13" >&2; exit 1; }
	@# Packages of another version of Python would not be found, and would stay for ever.
	@[ "$$($(BIN)/python --version 2>&1)" = "$$($(PYTHON) --version 2>&1)" ] || rm -rf $(VENV)/*
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	touch $@

$(DEVELOP): $(RUNTIME) tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	touch $@
