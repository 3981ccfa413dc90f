# Everything happens in .venv; set PYTHON to build it with another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Where torch comes from on a machine without a GPU; the default index gives the CUDA build.
PIP_FLAGS ?=
# Wheels, sdists or folders to train on.
WHEELS ?=

.PHONY: e2e-nvim e2e-emacs e2e-terminal bench-e2e-nvim run test lint format train eval bench-typing bench-door clean

# In a terminal an editor to try it in; anywhere else the suggestions, printed.
run: .venv/installed
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/midfill try; else $(BIN)/midfill complete docs/demo/stock.py; fi

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# TRACE: a gzipped recording in the format of github.com/josephg/editing-traces.
TRACE ?= ../shared/data/rustcode.json.gz
bench-typing: .venv/installed
	$(BIN)/python -m tests.bench.typing $(TRACE) $(ARGS)

bench-door: .venv/installed
	$(BIN)/python -m tests.bench.door $(ARGS)

# Real editors, installed into build/e2e (Emacs onto the host: root on Debian 12). UPDATE_SCREENSHOTS=1 rewrites docs/.
E2E := $(BIN)/python -m pytest -m e2e

e2e-nvim: .venv/e2e
	tests/e2e/install-nvim.sh build/e2e/nvim
	$(E2E) tests/e2e/nvim

e2e-emacs: .venv/e2e
	tests/e2e/install-emacs.sh build/e2e
	$(E2E) tests/e2e/emacs

e2e-terminal: .venv/e2e
	$(E2E) tests/e2e/terminal

bench-e2e-nvim: .venv/e2e
	tests/e2e/install-nvim.sh build/e2e/nvim
	$(BIN)/python -m tests.e2e.nvim.latency

.venv/e2e: .venv/installed
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[e2e]'
	touch $@

train eval: .venv/installed
	$(BIN)/python -m engine.training $@ $(ARGS)

clean:
	rm -rf .venv build dist

# torch first and alone: on some machines its CPU build is found only by its exact version.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt "$$(grep ^torch== constraints.txt)"
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch $@
