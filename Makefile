# Two commands do all the set-up on a fresh machine (Python 3.11 or newer and make):
#   make demo   install into .venv, run the whole road on a rendered data set, write demo_out/report.html
#   make test   install into .venv, run every check and every test

PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= demo_out
PYTEST_ARGS ?=
MUTANTS_ARGS ?=
ARM_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Whole files of tests go to as many processes as there are cores; PARALLEL= runs them in one.
PARALLEL ?= -n auto --dist loadfile
# One thread: results and timings do not depend on how many cores are free.
RUN := OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help install demo docs test test-fast lint typecheck imports unit integration conformance day arm bench mutants clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else f"hatdet needs Python 3.11 or newer; $(PYTHON) is {v}. Try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,export,fast,docs,track,tune]"
	@touch $@

install: $(STAMP)  ## create .venv and install hatdet with its extras

demo: $(STAMP)  ## the whole road in a few minutes: data, float, calibration, QAT, integer model, report
	$(RUN) tools/demo.py --out $(DEMO_OUT)

docs: $(STAMP)  ## the documentation site, in build/site (open index.html; nothing is fetched)
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build --strict

lint: $(STAMP)  ## ruff
	$(BIN)/python -m ruff check .

typecheck: $(STAMP)  ## mypy
	$(BIN)/python -m mypy

imports: $(STAMP)  ## import-linter: imports go down only
	PYTHONPATH=. $(BIN)/lint-imports --no-cache

unit: $(STAMP)  ## unit tests, injected faults and golden numbers
	$(RUN) -m pytest tests/unit tests/docs tests/faults tests/golden $(PARALLEL) $(PYTEST_ARGS)

integration: $(STAMP)  ## whole commands, resume, several processes
	$(RUN) -m pytest tests/integration $(PARALLEL) $(PYTEST_ARGS)

test: lint typecheck imports  ## every check and every test, the slow ones included
	$(RUN) -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-fast: lint typecheck imports  ## the same without the slow tests
	$(RUN) -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

day: $(STAMP)  ## a day of a user with the built wheel: data of three formats, training, int8 file, infer, benchmark, serve
	$(RUN) -m pytest tests/day $(PYTEST_ARGS)

conformance: $(STAMP)  ## against others' sources, fetched into build/conformance: MMDetection's configs and models, TFLite's kernels with single rounding
	$(RUN) -m pytest tests/conformance $(PYTEST_ARGS)

arm: $(STAMP)  ## LiteRT's ARM kernels on emulated cores: three trained models and 900 operator files, every value equal
	$(RUN) -m tests.arm.run $(ARM_ARGS)

bench: $(STAMP)  ## speed rows with ratios to plain PyTorch
	$(RUN) benchmarks/run.py

mutants: $(STAMP)  ## change single tokens of the core and count how many changes the unit tests notice
	$(RUN) -m tests.mutants.run $(MUTANTS_ARGS)

clean:  ## remove caches and what the demo wrote (data, weights and .venv stay)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build *.egg-info $(DEMO_OUT)
	find hatdet tools tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
