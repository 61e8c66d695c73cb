# Everything is made inside this folder, but for `clients`, which installs Debian packages.
#
#   make                    the package, built into a virtual environment in .venv
#   make PYTHON=python3.12  the same with another interpreter (3.11 or later)

VENV ?= .venv
PY := $(VENV)/bin/python
JOBS ?= 2
PYTEST_ARGS ?=
VERSIONS := 3.11 3.12 3.13

# Without PYTHON= the environment that is there stays; with it, one made by another version is made anew.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(if $(and $(wildcard $(PY)),$(wildcard $(VENV)/.created-*)),$(PY),python3)
endif
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# What pip and the package itself keep between runs stays inside the folder too.
export XDG_CACHE_HOME := $(CURDIR)/.cache
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CREATED := $(VENV)/.created-$(PYTHON_VERSION)
REQUIREMENTS := $(VENV)/.requirements
TOOLS := $(VENV)/.tools
BUILT := $(VENV)/.built
PROJECT := pyproject.toml setup.py
# Two terminals may run make in one checkout.
LOCKED = flock $(VENV)/.lock
SOURCES := $(wildcard native/*.c native/*.h native/*.py stubs/*.h stubs/*/*.S stubs/*/*.h)

.PHONY: build demo check check-all check-aarch64 test types style bless fuzz soak bench dist clients clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

build: $(BUILT)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "trapline needs Python 3.11 or later; $(PYTHON) is '$(PYTHON_VERSION)'. Try make PYTHON=..."; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(REQUIREMENTS): requirements.txt $(CREATED)
	$(LOCKED) $(PY) -m pip install --quiet --requirement requirements.txt
	touch $@

$(TOOLS): requirements-dev.txt $(REQUIREMENTS)
	$(LOCKED) $(PY) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# One object a Python version, side by side in jit/trapline. Changed sources rebuild only the extension.
# The stamp is as old as the start of the build, so that a file saved meanwhile counts as changed.
$(BUILT): $(REQUIREMENTS) $(PROJECT) $(SOURCES)
	@touch $@.started
	$(if $(filter $(REQUIREMENTS) $(PROJECT),$?),\
	    $(LOCKED) $(PY) -m pip install --quiet --no-build-isolation --no-deps --editable .,\
	    $(LOCKED) $(PY) setup.py --quiet build_ext --inplace --force)
	@touch --reference=$@.started $@

demo: build
	$(PY) -m trapline demo

# pytest comes last, so that its closing line is the last that is printed.
check: style types test

test: build $(TOOLS)
	$(PY) -m pytest --numprocesses=$(JOBS) --dist=loadfile $(PYTEST_ARGS)

check-all:
	@for version in $(VERSIONS); do \
	    if python=$$(.ci/find-python $$version); then \
	        echo "== Python $$version"; \
	        $(MAKE) check VENV=.venv-$$version PYTHON=$$python || exit 1; \
	    else \
	        echo "== Python $$version is not here: skipped"; \
	    fi; \
	done

check-aarch64: build $(TOOLS)
	$(PY) -m pytest tests/aarch64 $(PYTEST_ARGS)

types: build $(TOOLS)
	$(PY) -m mypy --strict

style: build $(TOOLS)
	$(PY) -m ruff check .

# Writes what the code produces now over the expected texts of every test that uses the fixture `golden`.
bless: build $(TOOLS)
	$(PY) -m pytest --bless $(PYTEST_ARGS)

fuzz: build $(TOOLS)
	$(PY) -m pytest tests/fuzz --numprocesses=$(JOBS) $(PYTEST_ARGS)

# Long runs of what `check` samples: their last output is kept beside the benchmarks.
soak: build $(TOOLS)
	$(PY) -m tests.fuzz.mutate_modules --count 100000 --seed 11 | tee bench/results/mutations.txt
	TRAPLINE_CHECK=0 TRAPLINE_STATE_MODULES=10000 $(PY) -m pytest tests/spec/test_states.py --no-header --numprocesses=$(JOBS) \
	    | tee bench/results/states.txt

bench: build $(TOOLS)
	$(PY) -m bench $(BENCH_ARGS)

dist: $(TOOLS)
	rm -rf dist
	$(PY) -m build --no-isolation --outdir dist

clients:
	.ci/install-clients

clean:
	rm -rf .venv .venv-* build dist jit/*.egg-info jit/trapline/*.so .cache .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
