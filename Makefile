# make demo, make test: all that is needed on a machine with Python 3.10 or newer and git.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv || echo $(PYTHON) -m uv)
BIN := .venv/bin
KINDS := local cluster connect
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
INSTALL := $(UV) pip install --quiet --require-hashes

.PHONY: demo test lint types tests oldest bench pins clean java uv

demo: .venv/ready java
	$(BIN)/aml-spark demo

test: lint types tests oldest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# One process per kind of Spark session: a process can't have a classic and a Connect session both.
tests: .venv/ready java
	set -e; for kind in $(KINDS); do $(BIN)/python -m pytest --spark $$kind; done

# The oldest versions that are supported, in an environment of their own.
oldest: .venv-oldest/ready java
	.venv-oldest/bin/python -m pytest -m oldest --spark local -W default

bench: .venv/ready java
	$(BIN)/python -m pytest tests/benchmarks --spark local

pins: uv
	$(COMPILE) pyproject.toml --extra demo --group dev --python-version 3.10 -o requirements/dev.txt
	$(COMPILE) --group pyproject.toml:oldest --python-version 3.11 -o requirements/oldest.txt

.venv/ready: requirements/dev.txt pyproject.toml | uv
	$(UV) venv --quiet --allow-existing --python '>=3.10,<3.13' .venv
	$(INSTALL) --python .venv -r requirements/dev.txt
	$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation -e .
	touch $@

.venv-oldest/ready: requirements/oldest.txt pyproject.toml | uv
	$(UV) venv --quiet --allow-existing --python 3.11 .venv-oldest
	$(INSTALL) --python .venv-oldest -r requirements/oldest.txt
	$(UV) pip install --quiet --python .venv-oldest --no-deps --no-build-isolation -e .
	touch $@

uv:
	@command -v uv >/dev/null || $(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv

java:
	@.ci/java

clean:
	rm -rf .venv .venv-oldest dist .pytest_cache .mypy_cache .ruff_cache aml-spark-demo
