# A thin front door: every recipe is a line that one could type. `make` alone lists the targets.

PYTHON ?= python3
CONFIG ?= small
RECIPE ?=
BUILD  ?= build
BOARD  ?= ulx3s
JOBS   ?= 2
BIN    := .venv/bin
READY  := .venv/.ready
# One BLAS thread for each of the JOBS processes: more would only wait for each other.
PYTEST := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all cocotb formal lint types verilog fpga bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY) ## prepare .venv with everything; costs nothing the second time

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup ## a small language model on simulated hardware, bit for bit
	$(BIN)/python examples/tinylm/demo.py --config $(CONFIG) --build $(BUILD)/demo \
		$(if $(RECIPE),--recipe $(RECIPE))

test: setup ## the whole test suite but the slow tests
	$(PYTEST) -m 'not slow'

test-all: setup ## the slow tests as well
	$(PYTEST)

cocotb: setup ## the cocotb benches only
	$(PYTEST) tests/cocotb

formal: setup ## the proofs only
	$(PYTEST) tests/formal

lint: setup ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## pyright
	$(BIN)/pyright --project pyproject.toml

verilog: setup ## generate CONFIG (default small) into BUILD (default build)
	$(BIN)/lutra generate $(CONFIG) --output $(BUILD)/$(CONFIG)

fpga: setup ## a bitstream for BOARD (default ulx3s), into BUILD
	$(BIN)/lutra board build $(BOARD) --output $(BUILD)

bench: setup ## utilisation and speed, measured here
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/mixture.py

clean: ## remove build products; keeps .venv
	rm -rf $(BUILD) .pytest_cache .ruff_cache .hypothesis sim_build
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
