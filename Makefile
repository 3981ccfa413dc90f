# Everything happens in .venv; set PYTHON to build it with another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Where torch comes from on a machine without a GPU; the default index gives the CUDA build.
PIP_FLAGS ?=
# Given on to the benches, and to train, fit and eval.
ARGS ?=
# For eval: gzipped JSON lines of prefix, middle, suffix, kind, instead of held-out holes.
HOLES ?=
# For benches: a gzipped recording in the format of github.com/josephg/editing-traces.
TRACE ?= ../shared/data/rustcode.json.gz

EDITORS := nvim emacs terminal vscode others
.PHONY: run test lint format fuzz gpu-check train fit eval vscode clean \
	e2e package-vscode $(EDITORS:%=e2e-%) $(EDITORS:%=install-%) \
	bench-cpu bench-debounce bench-door bench-e2e-nvim bench-e2e-vscode bench-engine bench-filters bench-server bench-typing bench-typing-peers

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

# About a quarter of an hour: 100,000 messages and 10,000 cancels.
fuzz: .venv/installed
	MIDFILL_FUZZ=100000 $(BIN)/python -m pytest tests/lsp_server/test_fuzz.py

train fit: .venv/installed
	$(BIN)/python -m engine.training $@ $(ARGS)

# What the model is worth, then what each part of the judgement makes of it.
eval: .venv/installed
	$(BIN)/python -m engine.training eval $(if $(HOLES),--holes $(HOLES)) $(ARGS)
	$(BIN)/python -m tests.bench.judgement

# VS Code's extension, editors/vscode/dist/midfill.vsix; needs Node 22 or newer, as `make e2e-vscode` brings it.
vscode:
	cd editors/vscode && npm ci --ignore-scripts && npm run package

# Real editors, installed into build/e2e; Emacs, Vim, tmux and Chromium onto the host, as root on Debian 12.
# UPDATE_SCREENSHOTS=1 rewrites those in docs/.
e2e: $(EDITORS:%=e2e-%)

install-nvim:
	tests/e2e/install-nvim.sh build/e2e/nvim

install-emacs install-others:
	tests/e2e/$@.sh build/e2e

install-terminal: .venv/installed

install-vscode: .venv/e2e
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/e2e/vscode/install.sh build/e2e/vscode

package-vscode: install-vscode
	cd editors/vscode && PATH="$(CURDIR)/$(BIN):$$PATH" npm run package

e2e-vscode: package-vscode
$(EDITORS:%=e2e-%): e2e-%: .venv/installed install-%
	$(BIN)/python -m pytest -m e2e tests/e2e/$*

# Each writes build/bench/NAME.json. The peers of bench-cpu and bench-typing are optional: pip install -e '.[peers]';
# bench-cpu with ARGS="--shape tiny_starcoder_py" runs one shape.
bench-cpu bench-door bench-engine bench-filters bench-server: .venv/installed
	$(BIN)/python -m tests.bench.$(@:bench-%=%) $(ARGS)

bench-debounce: .venv/installed
	$(BIN)/python -m tests.bench.debounce $(TRACE) $(ARGS)

bench-typing: .venv/installed
	$(BIN)/python -m tests.bench.typing $(TRACE) $(ARGS)
	$(BIN)/python -m tests.bench.typing_peers $(TRACE)

bench-typing-peers: .venv/installed
	$(BIN)/python -m tests.bench.typing_peers $(TRACE) $(ARGS)

# On a CUDA machine: build/bench/gpu.json, three charts and the tests marked gpu, in under 8 minutes, without network.
gpu-check: .venv/installed
	$(BIN)/python -m tests.bench.gpu $(ARGS); bench=$$?; $(BIN)/python -m pytest -m gpu tests/engine && exit $$bench

bench-e2e-nvim: .venv/installed install-nvim
	$(BIN)/python -m tests.e2e.nvim.latency $(ARGS)

bench-e2e-vscode: install-vscode package-vscode
	$(BIN)/python -m pytest -m e2e tests/e2e/vscode/test_latency.py $(ARGS)

clean:
	rm -rf .venv build dist

# torch first and alone: on some machines its CPU build is found only by its exact version.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt "$$(grep ^torch== constraints.txt)"
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch $@

.venv/e2e: .venv/installed
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[e2e]'
	touch $@
