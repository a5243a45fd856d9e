# Each target does the set-up it needs. `make` alone lists the targets.
#   make bench OUT=elsewhere ARGS='--seeds 2'     make test PYTHON=python3.13

# Fewer epochs than the tasks' own, for a first look; `python -m benchmarks run digits` trains with the task's own.
TASKS ?= digits digits-superpixels
EPOCHS ?= 8
OUT ?= results
ARGS ?=

# A process for each core, with one thread each: tests that are about threads set their own number. A process without
# tests takes half of the rest of another one, so that all end at the same time.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist worksteal
# The processes that tests start read compiled modules.
unexport PYTHONDONTWRITEBYTECODE

# $(1): the minor version of the newest Python
supported = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $(1)))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c '$(call supported,13)' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: help install bench docs test quick coverage test-dgl1 test-without-dgl wheel lint types doctest format clean same-python
.DELETE_ON_ERROR:

help:
	@echo 'make bench      build .venv if needed, run the default benchmark '
	@echo '                (TASKS="$(TASKS)" EPOCHS=$(EPOCHS) OUT="$(OUT)" ARGS="$(ARGS)")'
	@echo 'make test       build .venv if needed, then lint, types, doctests and all tests'
	@echo 'make quick      the tests for the inner loop: none that is slow, starts processes or reads data sets'
	@echo 'make coverage   all tests, with the lines that they reach: a table, and htmlcov/'
	@echo 'make docs       build the site into build/docs, with warnings as errors'
	@echo 'make test-dgl1  the same tests on DGL 1.1.3, in .venv-dgl1 (Python 3.10 or 3.11)'
	@echo 'make test-without-dgl   the same tests where import dgl fails'
	@echo 'make wheel      build the sdist and the wheel into dist/, and try the wheel in a fresh environment'
	@echo 'make lint | types | doctest | format     one step of it; format rewrites the files'
	@echo 'make clean      remove the environments, caches and build products; results/ stays'

install: .venv/installed

bench: .venv/installed
	@.venv/bin/python -m benchmarks run $(TASKS) --epochs $(EPOCHS) --out "$(OUT)" $(ARGS)

# The types are checked beside the tests, and reported after them: a core waits at times for a kernel that another one
# compiles.
test: .venv/installed
	@echo '== lint'; .venv/bin/python -m ruff check --quiet . && .venv/bin/python -m ruff format --check --quiet .
	@echo '== types, doctests and tests'; log=$$(mktemp); \
		.venv/bin/python -m mypy > $$log 2>&1 & types=$$!; \
		$(PYTEST) --durations 12 $(ARGS); tests=$$?; \
		wait $$types; types=$$?; cat $$log; rm $$log; exit $$((tests > types ? tests : types))

quick: .venv/installed
	@$(PYTEST) -m 'not (slow or process or data)' $(ARGS)

coverage: .venv/installed
	@$(PYTEST) --cov --cov-report=term --cov-report=html $(ARGS)

docs: .venv/installed
	@.venv/bin/python -m sphinx -W --keep-going -q -j auto -d build/doctrees docs build/docs $(ARGS)
	@echo 'The site is in build/docs/index.html'

test-dgl1: .venv-dgl1/installed
	@$(subst .venv,.venv-dgl1,$(PYTEST)) --durations 12 $(ARGS)

test-without-dgl: .venv/installed
	@GNNLIB_WITHOUT_DGL=1 $(PYTEST) --durations 12 $(ARGS)

wheel: .venv/installed
	@rm -rf dist
	@.ci/with-log .venv/build.log 'Building the sdist and the wheel' .venv/bin/python -m build --no-isolation
	@PYTHON='$(PYTHON)' .ci/try-wheel dist/*.whl

lint: .venv/installed
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .

format: .venv/installed
	@.venv/bin/python -m ruff check --fix .
	@.venv/bin/python -m ruff format .

types: .venv/installed
	@.venv/bin/python -m mypy

doctest: .venv/installed
	@.venv/bin/python -m pytest gnnlib $(wildcard README.md docs)

# The stamp is newer than what it was installed from, so a second run calls no pip.
.venv/installed: setup.cfg pyproject.toml constraints.txt | same-python
	$(call install,$(@D),13)

.venv-dgl1/installed: setup.cfg pyproject.toml constraints.txt
	$(call install,$(@D),11,-e 's/^dgl==.*/dgl==1.1.3/')

# An environment of another Python than the one that was asked for is an error.
VERSION := import sys; print("Python %d.%d" % sys.version_info[:2])
same-python:
ifneq ($(origin PYTHON),file)
	@[ ! -e .venv/bin/python ] || [ "$$(.venv/bin/python -c '$(VERSION)')" = "$$('$(PYTHON)' -c '$(VERSION)' 2>&1)" ] || { \
		echo "make: expected .venv to be of $(PYTHON), got $$(.venv/bin/python -c '$(VERSION)')." >&2; \
		echo 'To build it again: rm -r .venv' >&2; exit 1; }
endif

# $(1) the environment, $(2) the minor version of the newest Python, $(3) what sed does to the constraints.
define install
	@if [ -z '$(PYTHON)' ]; then \
		echo 'make needs Python 3.10 to 3.$(2), and none is on the PATH.' >&2; \
		echo 'Name one: make PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@'$(PYTHON)' -c '$(call supported,$(2))' || { \
		echo "make needs Python 3.10 to 3.$(2), found $$('$(PYTHON)' --version 2>&1)." >&2; \
		echo 'Name another: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@'$(PYTHON)' -m venv $(1)
	@sed -e '/^#/d' $(3) constraints.txt > $(1)/constraints.txt
	@.ci/with-log $(1)/install.log "Installing PyTorch, DGL and the tools into $(1), once, a few minutes" \
		$(1)/bin/python -m pip install --disable-pip-version-check -c $(1)/constraints.txt -e '.[bench,dev,docs,images,peers]'
	@$(1)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12))' || $(1)/bin/python -m benchmarks install-dgl
	@touch $@
endef

clean:
	rm -rf docs/api docs/gallery
	rm -rf .venv .venv-dgl1 build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov
	find gnnlib tests benchmarks datasets -name __pycache__ -prune -exec rm -rf {} +
