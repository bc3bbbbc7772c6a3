# Run `make` alone for the list of targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/runtime.installed
DEVELOP := $(VENV)/develop.installed
URL := http://localhost:$(or $(PORT),8000)

.DEFAULT_GOAL := help
.PHONY: help run check bench format pins clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up down stop logs test smoke
# Compose reads all of its file for every command, so that it asks for the secret even here.
down stop logs test: export WEBHOOK_SECRET := $(or $(WEBHOOK_SECRET),unused)
# The monitoring, if it was started.
down stop: export COMPOSE_PROFILES := *

up: ## Build and start the service in Docker, on http://localhost:8000; needs WEBHOOK_SECRET
	docker compose up -d --build --wait
	@echo "The service is ready on $(URL) (make logs: what it does, make stop: end it)."

down: ## Stop it and DELETE its data
	docker compose down -v
	@echo "The service is removed, and all its data."

stop: ## Stop it and keep its data
	docker compose stop
	@echo "The service is stopped, its data kept (make up: start it again)."

logs: ## Follow its log
	docker compose logs -f api

test: ## Run the tests in the container
	docker compose run --rm --build test

smoke: ## Play the specification's evaluation on a stack of its own; needs curl and jq
	tests/smoke.sh

run: $(RUNTIME) ## Serve on http://localhost:8000 without Docker; needs WEBHOOK_SECRET
	$(BIN)/python -m webhook_api

check: $(DEVELOP) ## Lint, check types and run the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n auto

bench: $(DEVELOP) ## Measure writes and reads; needs wrk and a C compiler, takes ten minutes
	$(BIN)/python -m tests.benchmarks.writes
	$(BIN)/python -m tests.benchmarks.writes --compare index --connections 32 --fsync-ms 0
	$(BIN)/python -m tests.benchmarks.reads

format: $(DEVELOP) ## Format the code and sort the imports
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

pins: ## Resolve the pinned dependencies anew; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make pins' \
		--output-file requirements.txt .requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make pins' \
		--output-file tests/requirements.txt tests/requirements.in

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(RUNTIME): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	touch $@

$(DEVELOP): $(RUNTIME) tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	touch $@
