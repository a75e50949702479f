# Everything here sets up what it needs: .venv with the versions of constraints.txt, made anew when those change.
# Needed beforehand: Python 3.11 to 3.13 with pip, and make. Nothing is installed outside this folder.

VENV := .venv
BIN := $(VENV)/bin
FOLDERS := omnirm preprocessing training app tests
NANO := nano-base-text nano-base-drill nano-base-media nano-base-glance nano-genrm

# The first Python that fits, unless one is named: make demo PYTHON=/path/to/python
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
    "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
    && command -v "$$p" && break; done)
endif
# uv of this machine, or one of our own in .uv
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
OWN_UV := $(filter .uv/bin/uv,$(UV))
export UV_HTTP_TIMEOUT ?= 300
# Tests use no network and one thread each, so that they run alike everywhere.
QUIET := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
TESTS := $(QUIET) OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-browser check lint install bench-preprocessing bench-judging bench-training nano constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.base ## Judge a text, an image, a video and an audio pair with the embedded model
	@$(QUIET) $(BIN)/omnirm demo

test: $(VENV)/.dev ## Run the tests in two processes (ARGS="-k name" for some of them)
	@$(TESTS) -n 2 --dist loadfile $(ARGS)

test-slow: $(VENV)/.dev ## Run the tests that `make test` leaves out for their length
	@$(TESTS) -m "slow and not gpu and not browser" $(ARGS)

test-browser: $(VENV)/.dev ## Use every page of the web app in Chromium (apt install chromium)
	@$(TESTS) -m browser tests/web $(ARGS)

check: lint test ## Everything that must pass before a commit: ruff, mypy, import-linter, pytest

lint: $(VENV)/.dev ## ruff, mypy and import-linter
	$(BIN)/ruff check --output-format concise $(FOLDERS)
	@rm -rf .tree && mkdir -p .tree/omnirm
	@cd .tree/omnirm && ln -s ../../omnirm/* ../../preprocessing ../../training ../../app . && rm -rf __pycache__
	$(BIN)/mypy
	@cd .tree && ../$(BIN)/lint-imports --config ../pyproject.toml --no-logo --no-cache

install: $(VENV)/.base ## Install extras: make install EXTRAS=train,app
	$(UV) pip install --python $(BIN)/python --constraints constraints.txt --editable ".[$(EXTRAS)]"

bench-preprocessing: $(VENV)/.dev ## Compare the speed of preprocessing with qwen-omni-utils
	$(QUIET) $(BIN)/python tests/benchmarks/bench_preprocessing.py $(ARGS)

bench-judging: $(VENV)/.dev ## Measure one call for many rubrics on a pair against a call for each
	@$(QUIET) $(BIN)/python tests/benchmarks/bench_judging.py $(ARGS)

bench-training: $(VENV)/.dev ## Compare our training steps with those of TRL's own trainers
	@$(QUIET) $(BIN)/python tests/benchmarks/training_cost.py $(ARGS)

nano: $(VENV)/.dev ## Train the embedded model's five stages of SFT anew; they resume (the sixth: docs/nano.md)
	$(QUIET) $(BIN)/python -m omnirm.training.nano.stages $(NANO:%=training/recipes/%.toml) $(ARGS)

# vllm wants setuptools < 81 from Python 3.12 on; with it here the set holds for 3.11 too
constraints: $(OWN_UV) ## Resolve constraints.txt anew (ARGS=--upgrade for newer versions)
	@echo 'setuptools<81' | $(UV) pip compile pyproject.toml --constraints - --all-extras --python-version 3.11 \
	    --no-header --no-annotate --no-emit-index-url --quiet --output-file constraints.txt $(ARGS)

clean: ## Remove what make and the tests made: .venv, caches, builds (not runs/)
	rm -rf $(VENV) .uv .tree build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed, by stamp: .base is the package as a user has it, .dev adds what tests and training need.
$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	@echo "omnirm: installing what judging needs into $(VENV); the first time this fetches about 3 GB (torch)"
	@$(UV) pip install --python $(BIN)/python --constraints constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "omnirm: installing what tests and training need into $(VENV); the first time this fetches about 3 GB (torch)"
	@$(UV) pip install --python $(BIN)/python --constraints constraints.txt --editable ".[app,dev,train]"
	@touch $(VENV)/.base $@

$(BIN)/python: | $(OWN_UV)
	@test -n "$(PYTHON)" || { echo "omnirm: no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "omnirm: making $(VENV) with $(PYTHON)"
	@$(UV) venv --quiet --seed --python "$(PYTHON)" $(VENV)

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "omnirm: no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "omnirm: no uv on this machine; putting one into .uv"
	@PIP_USER=0 $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv "uv>=0.9"
