# `make demo` solves a pixel task from nothing; `make test` runs the tests; `make integrations` runs
# latentwrap in each RL library, in environments of their own, and `make integration-sbx` in one;
# `make bench SLAC_PYTORCH=CLONE` times it beside its peers. Each makes .venv when there is none.
# PYTHON chooses the interpreter that makes it.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

LIBRARIES := $(patsubst integrations/%/requirements.txt,%,$(wildcard integrations/*/requirements.txt))

.PHONY: demo test lint types check integrations bench clean

demo: .venv/.user
	$(BIN)/latentwrap demo --force

# The networks are small: a second thread in each process only makes them slower.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

check: lint types test

integrations: $(LIBRARIES:%=integration-%)

# Ten environments take 15 GB, which a runner may lack.
integration-%: .venv/.dev
	$(BIN)/nox -s $*
	$(if $(CI),rm -rf .nox/$*)

# Writes benchmarks/speed.json, the figures of docs/performance.md.
bench: .venv/.dev
	$(BIN)/nox -s bench -- -o benchmarks/speed.json $(if $(SLAC_PYTORCH),--slac-pytorch $(abspath $(SLAC_PYTORCH)))

.venv/.user: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e '.[all]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e '.[dev]'
	touch $@ .venv/.user

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv .nox integrations/.cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
