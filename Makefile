# Everything runs in one virtual environment that the first target sets up; only Python and make are
# needed. `make demo PYTHON=python3.11` picks the interpreter, `VENV=...` the environment's folder.

VENV ?= .venv
WORK_DIR ?= work_dirs/quickstart
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10 python; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
BIN := $(VENV)/bin
# The tests' tensors are tiny: with a thread per core of a large machine they would only wait.
TEST_THREADS ?= 2

.PHONY: help install demo test test-fast check format clean

help:
	@echo 'make demo       trains KFMSD and the same network alone on real digits, prints a table'
	@echo 'make test       runs all tests (PYTEST_ARGS="-k kfm" picks some)'
	@echo 'make test-fast  runs the tests without the slow ones'
	@echo 'make check      checks format, lint and types'
	@echo 'make format     formats the code'
	@echo 'make install    only sets up the virtual environment $(VENV)'
	@echo 'make clean      removes caches and builds, not $(VENV), data or work_dirs'

install: $(VENV)/.installed

demo: install
	$(BIN)/python tools/compare.py configs/quickstart/baseline_digits.py \
		configs/quickstart/kfmsd_digits.py --work-dir $(WORK_DIR)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(VENV)/.installed-dev
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -m 'not slow' $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find mmkdfuse configs tools tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say with which files the environment was filled; it is filled again when one changes.
$(VENV)/.installed: requirements.txt setup.py pyproject.toml
	@test -n '$(PYTHON)' && $(PYTHON) -c '$(SUPPORTED)' || { echo \
		'mmkdfuse needs Python 3.10, 3.11 or 3.12: name one with `make PYTHON=/path/to/python`.' \
		>&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@
