# make book | test | test-all | results | sweep | publish | clean
# make book         PROFILE=smoke|demo|full|real|private|paper|path of a .yaml        DATA=phantom|path        OUT=folder for cached results        CORES=all
# make test         WORKERS=auto: processes, as many as there are cores but 4 at most; 0: in this process
# make sweep        SWEEP=images_per_class|smoke|path of a .yaml        DATA=phantom|path        CLUSTER=slurm        JOBS=1
# Each target installs what it needs into .venv/ first. Runs write under build/ alone.
PROFILE ?= demo
DATA ?= phantom
OUT ?=
SWEEP ?= images_per_class
CLUSTER ?=
JOBS ?= 1
WORKERS ?= auto
CORES ?= all
FOLDER ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first Python that is new enough; PYTHON=path chooses another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

LATER := $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)

# What the caller named, as one word of the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'

# A path is relative to here or, with make -C, to where make was called. A missing one is refused before anything long starts.
existing = $(shell if [ -e $(call quoted,$(1)) ]; then printf %s $(call quoted,$(1)); \
    elif [ -e $(call quoted,$(PWD)/$(1)) ]; then printf %s $(call quoted,$(PWD)/$(1)); fi)

DATA_FOUND := $(if $(filter-out phantom,$(DATA)),$(call existing,$(DATA)),phantom)
ifeq ($(DATA_FOUND),)
  $(error DATA=$(DATA): there is no such file or folder; give an existing one, or leave DATA out for the phantom)
endif

# PROFILE is a name from medddist/profiles or the path of a .yaml file, whose name is then the run's.
ifneq ($(filter %.yaml %.yml,$(lastword $(PROFILE))),)
  PROFILE_FOUND := $(call existing,$(PROFILE))
  ifeq ($(PROFILE_FOUND),)
    $(error PROFILE=$(PROFILE): there is no such file; give an existing .yaml file, as `medddist init` writes one)
  endif
else
  PROFILE_FOUND := $(PROFILE)
  ifeq ($(wildcard medddist/profiles/$(PROFILE).yaml),)
    $(error PROFILE=$(PROFILE): there is no such profile; \
      choose one of $(basename $(notdir $(wildcard medddist/profiles/*.yaml))), or give the path of a .yaml file)
  endif
endif

RUN := build/$(shell basename $(call quoted,$(PROFILE_FOUND)) | sed 's/\.ya\{0,1\}ml$$//; s/[^A-Za-z0-9_.-]/_/g')
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED := 1

.PHONY: help install book test test-all results sweep publish clean

help:
	@echo 'make book      the study of DATA (phantom) with PROFILE (demo), as $(RUN)/html/index.html'
	@echo 'make test      lint and layers, unit tests, the smoke study, the strict build of the book'
	@echo 'make test-all  the same with the long tests, and which lines of the library they run'
	@echo 'make results   the reference results, results/*.json'
	@echo 'make sweep     a table over images per class and seeds, results/sweep-*.csv; CLUSTER=slurm runs it as jobs'
	@echo 'make publish   the notebooks of the default book, beside their scripts'
	@echo 'make clean     removes build/, not .venv/'
	@echo 'make install   only what the others install first; then .venv/bin/medddist --help'

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(if $(PYTHON),,echo 'no Python 3.11 or newer found; install one, or name it with PYTHON=path' >&2; exit 2)
	@echo 'installing into $(VENV)/ with $(PYTHON) (a minute or two, once)' >&2
	@$(PYTHON) -m venv $(VENV)
# Each module is compiled when it is first imported, not all of them now, which would take longer. Where the environment
# forbids Python to keep what it compiled, every start would do so again. uv takes half a minute, but asks PyPI alone; where
# another index is configured for pip, or uv cannot reach PyPI, pip installs, in two minutes.
	@{ ! $(PY) -m pip config list | grep -q index \
	  && $(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<1' \
	  && $(PY) -m uv pip install --quiet --system-certs --python $(PY) $(if $(LATER),,--compile-bytecode) -r requirements.lock; } \
	  || $(PY) -m pip install --quiet --disable-pip-version-check $(LATER) -r requirements.lock
# In this mode a folder `medddist` beside a script, such as a clone, is not taken for the library.
	@PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . \
	  --config-settings editable_mode=compat
	@touch $@

# A run that was killed leaves no lock (--nolock) and is taken up again (--rerun-incomplete). What snakemake keeps of the
# Snakefile under build/ (and not in the home folder) it would read again instead of the Snakefile itself: away with it.
book: $(INSTALLED)
	@mkdir -p build && mkdir -p -m 700 $(RUN)
	@rm -rf $(RUN)/.snakemake/sources
	@PROFILE=$(call quoted,$(PROFILE_FOUND)) DATA=$(call quoted,$(DATA_FOUND)) OUT=$(call quoted,$(OUT)) \
	  $(PY) -m snakemake --snakefile workflow/Snakefile --directory $(RUN) --cores $(CORES) --nolock \
	  --rerun-incomplete --quiet all --runtime-source-cache-path $(call quoted,$(CURDIR)/$(RUN)/.snakemake/sources)
	@echo 'the book: $(RUN)/html/index.html'

# Several processes, one thread each; tests/workers.py says who begins with what.
IN_WORKERS := -n $(WORKERS) --dist worksteal
test: $(INSTALLED)
	$(PY) -m pytest -m "not slow" $(IN_WORKERS)

test-all: $(INSTALLED)
	$(PY) -m pytest $(IN_WORKERS) --cov medddist --cov-report term:skip-covered

results: $(INSTALLED)
	$(PY) -m medddist results --profile $(call quoted,$(PROFILE_FOUND)) --data $(call quoted,$(DATA_FOUND))

# A sweep that was killed goes on where it was: --rerun-incomplete, and what its points had kept.
SWEEP_FILE := $(if $(filter %.yaml %.yml,$(SWEEP)),$(SWEEP),workflow/sweeps/$(SWEEP).yaml)
sweep: $(INSTALLED)
	@mkdir -p $(call quoted,build/sweep/$(basename $(notdir $(SWEEP_FILE))))
	@SWEEP=$(call quoted,$(abspath $(SWEEP_FILE))) DATA=$(call quoted,$(DATA_FOUND)) OUT=$(call quoted,$(OUT)) FOLDER=$(call quoted,$(FOLDER)) JOBS=$(JOBS) \
	  $(PY) -m snakemake --snakefile workflow/sweep.smk --directory $(call quoted,build/sweep/$(basename $(notdir $(SWEEP_FILE)))) \
	  $(if $(CLUSTER),--workflow-profile $(call quoted,workflow/cluster/$(CLUSTER)),--cores all --resources gpu=$(JOBS)) \
	  --nolock --rerun-incomplete --quiet all

# Only the phantom's pictures may be committed: the notebooks carry what they were made of, and others are refused.
publish:
	@$(MAKE) --no-print-directory book PROFILE=demo DATA=phantom
	@$(PY) workflow/notebook.py publish build/demo/notebooks notebooks
	@$(PY) -m workflow.pace demo
	@$(PY) -m workflow.overview
	@$(PY) -m workflow.browser_data

clean:
	rm -rf build book/_build
