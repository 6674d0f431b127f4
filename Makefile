# make demo               set up, render a clip of moving shapes and track it: out/demo/
# make demo VIDEO=a.mp4   set up and track people in a video of yours: out/a/
# make test               set up and run the tests
# make coverage           run the tests and print the share of the package's lines they execute
# make lint               check style, formatting, types, and the links of the documentation
# make docs               build the documentation site: out/site/index.html
# make setup              only install what these need
# make clean              remove outputs and caches (not the virtual environment)
#
# PYTHON=python3.12 chooses the interpreter, VENV=folder where its packages are installed.

PYTHON ?= python3
VENV ?= .venv
VIDEO ?=

RUN := $(VENV)/bin/python
# Named after the requirements themselves: a fresh clone or a touched file installs nothing anew.
REQUIREMENTS := $(shell cat pyproject.toml setup.py | cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed-$(REQUIREMENTS)
INSTALLED_DEV := $(VENV)/.installed-dev-$(REQUIREMENTS)
CLIP := out/demo/clip/videos/0000.mp4

# The shell reads the path from its environment, so it may hold spaces and quotes.
export VIDEO

.PHONY: demo test coverage lint docs setup clean
.DELETE_ON_ERROR:

ifeq ($(strip $(VIDEO)),)
demo: $(CLIP)
	@$(RUN) demo/track_video.py $(CLIP) --weights shapes --out out/demo
else
demo: $(INSTALLED)
	@$(RUN) demo/track_video.py "$$VIDEO"
endif

# Processes share the tests; threads of their libraries would only compete.
test: $(INSTALLED_DEV)
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4

coverage: $(INSTALLED_DEV)
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --cov

lint: docs
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

# A broken link or an unresolved reference ends it.
docs: $(INSTALLED_DEV)
	@$(RUN) -m zensical build --strict --clean

setup: $(INSTALLED_DEV)

clean:
	rm -rf out build dist *.egg-info .coverage* .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(CLIP): | $(INSTALLED)
	@rm -rf out/demo/clip
	@$(RUN) tools/convert_dataset.py synthetic out/demo/clip --preset demo --seed 0 --mp4

$(INSTALLED): | $(RUN)
	@echo "Installing queryinst-vis into $(VENV) (PyTorch is large: a few minutes, once)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(INSTALLED_DEV): | $(INSTALLED)
	@echo "Installing the test tools into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(RUN):
	@echo "Creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
