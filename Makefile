# `make quickstart` and `make test` need Python 3.10–3.13 with pip and venv; everything else they install into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make quickstart   install, then prepare, train, evaluate and report (ARGS='key=value …' are passed on)"
	@echo "make test         ruff, mypy, pytest"
	@echo "make bench-model  speed and memory of the model: a line a figure, and runs/bench/model.json (about 15 minutes)"
	@echo "make bench-kernels  the same of the state-space kernels, and a plot: runs/bench/kernels.json, kernels.svg (about 15 minutes)"
	@echo "make bench-gpu    kernels against their plain twins on a CUDA GPU: runs/bench/gpu.json"
	@echo "make bench-data   speed of preparing, interleaving and loading: runs/bench/data.json (about 6 minutes; ARGS=CORPUS measures your recordings)"
	@echo "make format       format the code"
	@echo "make clean        remove .venv and caches; runs/ stays"

# Made anew when the requirements or the compiled kernels change; the marker is written last, so a broken installation is repeated.
$(VENV)/.installed: pyproject.toml setup.py $(wildcard lst/kernels/native/src/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} will not do: LST needs 3.10 to 3.13. Name one with make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.PHONY: quickstart
quickstart: $(VENV)/.installed
	$(BIN)/lst quickstart $(ARGS)

.PHONY: test
test: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: bench-model
bench-model: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.model $(ARGS)

.PHONY: bench-kernels
bench-kernels: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.kernels $(ARGS)

.PHONY: bench-gpu
bench-gpu: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.gpu $(ARGS)

.PHONY: bench-data
bench-data: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.data $(ARGS)

.PHONY: format
format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
