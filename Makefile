# `make quickstart` and `make test` need Python 3.10–3.13 with pip and venv; everything else they install into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Of pyproject.toml; more of them are installed together.
EXTRAS ?= dev

.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make quickstart   install, then prepare, train, evaluate and report (ARGS='key=value …' are passed on)"
	@echo "make test         ruff, mypy, pytest"
	@echo "make test-fuzz    5,000 damaged inputs of each kind (ARGS='-k models' chooses; LST_FUZZ_EXAMPLES=N sets how many)"
	@echo "make test-faults  stop prepare, train, eval, report and quickstart at every change of a file, and run them again"
	@echo "make test-scaling  intervals of scaling laws against 200 known ones (about 3 minutes)"
	@echo "make bench-model  speed and memory of the model: a line a figure, and runs/bench/model.json (about 15 minutes)"
	@echo "make bench-train  training, forward and generation against transformers' Llama in turns: runs/bench/train.json (about 10 minutes; ARGS='--turns N')"
	@echo "make bench-kernels  the same of the state-space kernels, and a plot: runs/bench/kernels.json, kernels.svg (about 15 minutes)"
	@echo "make bench-eval   scoring questions with shared contexts against whole documents: runs/bench/eval.json (about 10 minutes)"
	@echo "make bench-mup    whether the rate of model=family carries over from small to large: runs/bench/mup.json (about 2 hours of one core; ARGS='--depths 2 4 --steps 100' is quicker)"
	@echo "make bench-voice  speed and memory of converting and speaking: runs/bench/voice.json (about 3 minutes)"
	@echo "make bench-resynthesis  word errors of recordings, of their mels and of their units as sound: runs/bench/resynthesis.json (ARGS=RUN; about 2 minutes)"
	@echo "make bench-gpu    kernels against their plain twins on a CUDA GPU: runs/bench/gpu.json"
	@echo "make bench-align  how alignment bears mistakes in transcripts: runs/bench/align.json (ARGS=CORPUS; about 30 minutes for 120 recordings)"
	@echo "make bench-data   speed of preparing, interleaving and loading, and of checking 100,000 utterances: runs/bench/data.json (about 10 minutes; ARGS=CORPUS measures your recordings)"
	@echo "make docs         the documentation as a site: site/index.html"
	@echo "make wheel        build the wheel, install it alone and run the smoke experiment with it"
	@echo "make image        a container image, with docker or podman: docker run --rm -v \$$PWD:/work lst quickstart"
	@echo "make format       format the code"
	@echo "make clean        remove .venv, caches, build/ and site/; runs/ stays"

# Made anew when the requirements or the compiled kernels change; the marker is written last, so a broken installation is repeated.
$(VENV)/.installed: pyproject.toml setup.py $(wildcard lst/kernels/native/src/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} will not do: LST needs 3.10 to 3.13. Name one with make PYTHON=python3.12 …")'
	@echo "installing into $(VENV): torch and others, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on --editable '.[$(EXTRAS)]'
	@touch $@

.PHONY: quickstart
quickstart: $(VENV)/.installed
	$(BIN)/lst quickstart $(ARGS)

# Types are checked while the tests run: mypy has a core for itself for most of a minute. What tests import is kept
# compiled, for they start hundreds of processes.
.PHONY: test
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p build
	@$(BIN)/mypy > build/mypy.txt 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS); tests=$$?; \
	wait $$types; wrong=$$?; cat build/mypy.txt; exit $$((tests || wrong))

# Random ones; those of `make test` are few and the same each time.
.PHONY: test-fuzz
test-fuzz: $(VENV)/.installed
	LST_FUZZ_EXAMPLES=$${LST_FUZZ_EXAMPLES:-5000} $(BIN)/python -m pytest -q -n auto --dist loadfile tests/fuzz $(ARGS)

.PHONY: test-faults
test-faults: $(VENV)/.installed
	LST_TEST_FAULTS=all $(BIN)/python -m pytest -q -rP -n auto --dist load tests/faults tests/recipes/training/test_kills.py tests/data/prepare/test_prepare_kills.py $(ARGS)

.PHONY: test-scaling
test-scaling: $(VENV)/.installed
	LST_SCALING_SURFACES=$${LST_SCALING_SURFACES:-200} $(BIN)/python -m pytest -q -rP tests/recipes/scaling/test_law.py -k cover $(ARGS)

# About two hours on two cores.
.PHONY: test-learning
test-learning: $(VENV)/.installed
	LST_TEST_LEARNING=all $(BIN)/python -m pytest -q -s tests/learning $(ARGS)

# The pages need nothing from the network. The two variables silence adverts of MkDocs' themes and plugins.
$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

.PHONY: docs
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict $(ARGS)

# A fresh environment that borrows the packages of the first one: lst itself comes from the wheel. Its own folder is no
# checkout, so a file that the wheel lacks is missed.
WHEEL := build/wheel

.PHONY: wheel
wheel: $(VENV)/.installed
	rm -rf $(WHEEL) build/lib build/bdist.*
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	$(BIN)/python -m venv --without-pip $(WHEEL)/env
	$(BIN)/python -m pip --python $(WHEEL)/env/bin/python install --quiet --no-deps $(WHEEL)/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(WHEEL)/env/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first_environment.pth"
	cd $(WHEEL) && env/bin/python -c 'import lst; assert "/wheel/env/" in lst.__file__, lst.__file__'
	cd $(WHEEL) && env/bin/lst --help > /dev/null
	cd $(WHEEL) && env/bin/lst quickstart experiment=smoke
	@test -s $(WHEEL)/runs/smoke/report.html

# With docker, or with podman where that is what there is.
IMAGE_TOOL ?= $(shell command -v docker || command -v podman)
IMAGE_ARGS ?=
.PHONY: image
image:
	@test -n "$(IMAGE_TOOL)" || { echo "make image needs docker or podman; neither is on the PATH"; exit 1; }
	$(IMAGE_TOOL) build --tag lst $(IMAGE_ARGS) .

.PHONY: bench-model
bench-model: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.model $(ARGS)

.PHONY: bench-train
bench-train: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m lst.recipes.benchmarks.training $(ARGS)

.PHONY: bench-kernels
bench-kernels: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.kernels $(ARGS)

.PHONY: bench-eval
bench-eval: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.evaluation $(ARGS)

.PHONY: bench-mup
bench-mup: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.transfer $(ARGS)

.PHONY: bench-voice
bench-voice: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.voice $(ARGS)

.PHONY: bench-resynthesis
bench-resynthesis: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m lst.recipes.benchmarks.resynthesis $(ARGS)

.PHONY: bench-gpu
bench-gpu: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.gpu $(ARGS)

.PHONY: bench-align
bench-align: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.alignment $(ARGS)

.PHONY: bench-data
bench-data: $(VENV)/.installed
	$(BIN)/python -m lst.recipes.benchmarks.data $(ARGS)

.PHONY: format
format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build site *.egg-info
