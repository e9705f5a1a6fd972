# Two commands matter on a fresh machine: `make demo` and `make test`. Both make their own virtual environment in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# xdist starts this many test processes, each with one thread.
TEST_JOBS ?= 2
OUT ?= out

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint format bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## make the virtual environment .venv with the pinned packages

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 10) <= v < (3, 13) else \
	    f"Error: Python 3.10 to 3.12 is needed, {sys.executable} is {v.major}.{v.minor}; name another one: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[portraits,shards,ray,dev]'
	@touch $@

demo: $(STAMP) ## data, training and videos in one go, into out/
	$(BIN)/next3d demo --out $(OUT)

# The tests run, and have the last word, also when the style is wrong.
test: $(STAMP) ## format, lint, types and all tests
	@failed=0; $(MAKE) --no-print-directory lint || failed=1; \
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_JOBS) || failed=1; \
	exit $$failed

lint: $(STAMP) ## format, lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## the generator's speed and memory, stage by stage
	$(BIN)/python -m bench.generator --preset demo-64

clean: ## remove what make and the tests made; data, runs and out stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
