# Every target sets up what it needs in .venv by itself; `make` alone lists them.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
IMAGE   ?= mcp-oauth2-proxy:latest
CONFIG  ?= config/config.yaml
TESTS   ?= tests
# Of `make chaos`: how long, which run again, workers of each replica, and `embedded` or `keycloak`.
CHAOS_SECONDS  ?= 600
CHAOS_SEED     ?=
CHAOS_WORKERS  ?= 2
CHAOS_PROVIDER ?= embedded
# Of `make soak`: how long.
SOAK_SECONDS   ?= 600
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test e2e test-coverage fuzz fuzz-fold lint fmt types deps build serve docker-build helm-debug bench bench-logins chaos soak clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.x")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python setup.py constraints.txt
	@echo "Setting up $(VENV) ..."
	@$(PIP) --config-settings editable_mode=compat --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(BIN)/python setup.py constraints.txt
	@echo "Setting up $(VENV) for tests ..."
	@$(PIP) --config-settings editable_mode=compat --editable '.[demo,test]'
	@touch $@

demo: $(VENV)/.demo ## the whole flow on this machine: identity provider, MCP server, client (DEMO_ARGS=--once)
	@$(BIN)/mcp-oauth2-proxy demo $(DEMO_ARGS)

test: $(VENV)/.test ## run the whole suite (TESTS=tests/gate for a part)
	@$(BIN)/python -m tests.run $(TESTS)

e2e: $(VENV)/.test ## run the end-to-end tests on a real Keycloak, which must be possible here
	@REQUIRE_KEYCLOAK=1 $(BIN)/python -m tests.run tests/e2e tests/keycloak_contract

test-coverage: $(VENV)/.test ## run the suite and write htmlcov/
	@$(BIN)/python -m coverage run -m tests.run --one-by-one $(TESTS)
	@$(BIN)/python -m coverage html --quiet && $(BIN)/python -m coverage report --skip-covered | tail -n 1

fuzz: $(VENV)/.test ## look for bytes that break a rule of the wire (FUZZ_SECONDS=3600)
	@$(BIN)/python -m tests.fuzz

fuzz-fold: $(VENV)/.test ## fold what make fuzz has found interesting into the seeds of the tree
	@$(BIN)/python -m tests.fuzz fold

lint: $(VENV)/.test ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

fmt: $(VENV)/.test ## format the code
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

deps: ## download and tidy the dependencies: everything into .venv, versions as pinned
	@rm -f $(VENV)/.test && $(MAKE) --no-print-directory $(VENV)/.test && $(BIN)/python -m pip check

build: $(BIN)/python ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

serve: $(VENV)/.demo ## run the proxy (CONFIG=config/config.yaml)
	@$(BIN)/mcp-oauth2-proxy serve --config $(CONFIG)

docker-build: ## build the container image
	docker build --tag $(IMAGE) .

helm-debug: ## render the chart with all it has to say
	@helm=$$(tools/helm.sh) && $$helm template mcp-oauth2-proxy deploy/helm --debug --values deploy/values-production.yaml

bench: $(VENV)/.test ## measure the relay beside nginx and a Go proxy
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-logins: $(VENV)/.test ## measure what logins and refreshes cost the proxy and its store
	@$(BIN)/python -m bench.logins $(BENCH_ARGS)

chaos: $(VENV)/.test ## break everything under load for ten minutes and judge (CHAOS_SECONDS=60 CHAOS_SEED=1)
	@$(BIN)/python -m tests.chaos --seconds $(CHAOS_SECONDS) --seed "$(CHAOS_SEED)" \
		--workers $(CHAOS_WORKERS) --provider $(CHAOS_PROVIDER)

soak: $(VENV)/.test ## mixed traffic with faults for ten minutes, then count what is left (SOAK_SECONDS=60)
	@$(BIN)/python -m tests.soak $(SOAK_SECONDS)

clean: ## remove what the targets made
	@rm -rf $(VENV) build dist htmlcov output _trial_temp* .coverage* .mypy_cache .ruff_cache .hypothesis *.egg-info
