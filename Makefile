# make demo   set up, then run the whole story on this machine  (MINUTES=10 CORPUS=folder/of/recordings)
# make test   set up with the developers' tools, then run the default tests
# make lint   ruff, check and format       make types   mypy, strict       make clean   remove what make made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EVAL := $(VENV)/.installed-eval
DEV := $(VENV)/.installed-dev
BUILD := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

.DELETE_ON_ERROR:
.PHONY: demo test lint types clean

demo: $(EVAL)
	$(BIN)/wavestill demo $(if $(MINUTES),--minutes "$(MINUTES)") $(if $(CORPUS),--corpus "$(CORPUS)")

test: $(DEV)
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("wavestill needs Python 3.10 or newer, but $(PYTHON) is %d.%d: run make with PYTHON=python3.11 or such" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(EVAL): $(BUILD) | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[eval]'
	touch $@

$(DEV): $(BUILD) | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[eval,dev]'
	touch $@ $(EVAL)
