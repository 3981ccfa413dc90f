# Everything happens in .venv; set PYTHON to build it with another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Where torch comes from on a machine without a GPU; the default index gives the CUDA build.
PIP_FLAGS ?=
# Wheels, sdists or folders to train on.
WHEELS ?=

.PHONY: run test lint format train eval bench-typing bench-engine bench-door bench-server bench-debounce bench-filters fuzz clean

run: .venv/installed
	$(BIN)/midfill complete docs/demo/stock.py

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

bench-engine: .venv/installed
	$(BIN)/python -m tests.bench.engine $(ARGS)

bench-door: .venv/installed
	$(BIN)/python -m tests.bench.door $(ARGS)

bench-filters: .venv/installed
	$(BIN)/python -m tests.bench.filters

bench-server: .venv/installed
	$(BIN)/python -m tests.bench.server $(ARGS)

bench-debounce: .venv/installed
	$(BIN)/python -m tests.bench.debounce $(TRACE) $(ARGS)

# About a quarter of an hour: 100,000 messages and 10,000 cancels.
fuzz: .venv/installed
	MIDFILL_FUZZ=100000 $(BIN)/python -m pytest tests/lsp_server/test_fuzz.py

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
