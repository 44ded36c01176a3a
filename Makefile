# Every target sets up what it needs: a virtual environment in $(VENV), made again when pyproject.toml changes.
#   make demo                     make test ARGS="-k averaging"        make PYTHON=python3.13 test

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Byte code, on every core, which pip would write on one; packages hold files that no Python of today can compile, and
# many that nothing here imports.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/(tests|pip|mypy|setuptools)/' $(VENV)/lib || true

# Tests that need MNIST look here, and are skipped (with the reason) where there is none.
ifeq ($(HANSA_DATA_DIR),)
ifneq ($(wildcard ../shared/data/.),)
export HANSA_DATA_DIR := $(abspath ../shared/data)
endif
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-all test-hf lint bench bench-quick notebooks docs clean

help: ## show these targets
	@echo "Hansa: federated learning as typed programs."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo
	@echo "Variables: PYTHON ($(PYTHON)), VENV ($(VENV)), WORKERS ($(WORKERS), for test), ARGS (more arguments for demo, test, bench)."

demo: $(VENV)/.base ## train a model on ten clients and draw the curves; needs no network once installed
	@$(BIN)/hansa demo $(ARGS)

test: $(VENV)/.dev ## run the tests on WORKERS processes, but for those that take longest
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'not slow and not whole' $(ARGS)

test-slow: $(VENV)/.dev ## run the tests that take longest: kills, the tutorial, other backends
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'slow and not whole' $(ARGS)

test-all: $(VENV)/.dev ## run all tests, also those that take hours: the whole table of PyTorch's operations, often
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --hypothesis-profile=thorough $(ARGS)

# A hundred MB that nothing else needs, so these tests are skipped where the two packages are not installed.
test-hf: $(VENV)/.dev ## run the tests of Hugging Face's models, after installing transformers and peft
	@$(PIP) install transformers peft
	@$(BIN)/python -m pytest -n $(WORKERS) tests/models/torch/test_hugging_face.py $(ARGS)

lint: $(VENV)/.dev ## check style, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## measure speed against this machine's own matrix product
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-quick: $(VENV)/.dev ## print ratios to the matrix product and to bare loops, in under three minutes
	@$(BIN)/python -m benchmarks.quick $(ARGS)

notebooks: $(VENV)/.dev ## run the notebooks of the documentation, and keep their outputs in them
	@$(BIN)/python docs/notebooks.py $(ARGS)

docs: $(VENV)/.dev ## build the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove the virtual environment and what tools leave behind; runs/ stays
	rm -rf $(VENV) build dist site packaging/core/build src/*.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Hansa needs Python 3.11 or later, and there is no '$(PYTHON)' here. Name yours: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Hansa needs Python 3.11 or later, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }

$(VENV)/.base: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Hansa into $(VENV): once, about a minute ..."
	@$(PIP) install --no-compile -e '.[plots]'
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Hansa and its development tools into $(VENV): once, a few minutes ..."
	@$(PIP) install --no-compile -e '.[dev]'
	@$(COMPILE)
	@touch $(VENV)/.base $@
