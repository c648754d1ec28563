# make demo, make test: all that is needed on a machine with Python 3.10 or newer and git.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv || echo $(PYTHON) -m uv)
BIN := .venv/bin
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
# With uv's cache, each installation would leave PySpark there once more, unpacked: 1.6 GB that nothing uses again.
INSTALL := $(UV) pip install --quiet --no-cache --require-hashes

# Where this is set, each of the hundred processes of a test run compiles again all that it imports.
export PYTHONDONTWRITEBYTECODE :=

# Output that tells which of the jobs that run side by side it comes from.
SAID_BY = 2>&1 | while IFS= read -r line; do printf '%-9s| %s\n' $(1) "$$line"; done
DOCUMENTS := tests/test_documents.py
SCORING := $(patsubst %,tests/test_%.py,scoring kills stream servers environment flavors)
CHANGES := tests/test_changes.py tests/test_feed.py tests/test_backfill.py
LAKE := tests/test_datalake.py tests/test_files.py tests/test_lake.py
CLOUD := tests/test_control.py tests/test_deployment.py tests/test_endpoints.py tests/test_manage.py
MONITORING := $(patsubst %,tests/test_%.py,drift drift_tables importance monitor monitor_cli outcomes page performance profile quality \
    report schedule selection)
PROJECTS := tests/test_databricks.py tests/test_project.py
AZURE := tests/test_artifacts.py tests/test_calls.py tests/test_copying.py tests/test_trust.py
ARGUMENTS_documents := --spark local $(DOCUMENTS)
ARGUMENTS_scoring := --spark local $(SCORING)
ARGUMENTS_changes := --spark local $(CHANGES)
ARGUMENTS_azure := --spark local $(AZURE)
ARGUMENTS_lake := --spark local $(LAKE)
ARGUMENTS_cloud := --spark local $(CLOUD)
ARGUMENTS_projects := --spark local $(PROJECTS)
ARGUMENTS_monitoring := --spark local $(MONITORING)
OTHERS := $(DOCUMENTS) $(SCORING) $(CHANGES) $(LAKE) $(CLOUD) $(PROJECTS) $(MONITORING) $(AZURE)
ARGUMENTS_local := --spark local $(patsubst %,--ignore %,$(OTHERS))
# To read files of which no test is chosen takes pytest longer than the tests of some.
MARKED = $(shell grep -lE 'mark\.($(1))\b' tests/test_*.py)
ARGUMENTS_oldest = -m oldest --spark local -W default $(call MARKED,oldest)
ARGUMENTS_cluster = --spark cluster $(call MARKED,every_kind)
ARGUMENTS_connect = --spark connect $(call MARKED,every_kind|connect)
SPARK_TESTS := tests-monitoring tests-scoring tests-documents tests-changes tests-connect tests-lake tests-cloud tests-local \
    tests-projects tests-cluster tests-azure
# For two cores: four leave 2 % of the time unused, and five take as long.
SIDE_BY_SIDE := --jobs 4

.PHONY: demo test lint types tests $(SPARK_TESTS) oldest newest fuzz chaos pytorch bench pins clean browser java jars uv

demo: .venv/ready java
	$(BIN)/aml-spark demo

test: .venv/ready java
	$(MAKE) --no-print-directory $(SIDE_BY_SIDE) lint types $(SPARK_TESTS) oldest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

tests: .venv/ready java
	$(MAKE) --no-print-directory $(SIDE_BY_SIDE) $(SPARK_TESTS)

# One process per kind of Spark session: a process can't have a classic and a Connect session both. What runs on local
# is in nine, longest first, so that no job outlasts the others by much.
tests-monitoring: browser
tests-local: .venv-official/ready .azurite/ready
$(SPARK_TESTS): tests-%: jars
	set -o pipefail; $(BIN)/python -m pytest $(ARGUMENTS_$*) $(call SAID_BY,$*)

# The oldest versions that are supported, in an environment of their own. What those packages warn of is known.
oldest: .venv-oldest/ready jars
	set -o pipefail; .venv-oldest/bin/python -m pytest $(ARGUMENTS_oldest) $(call SAID_BY,oldest)

# What pip brings today, which may be newer than what is pinned.
newest: java uv
	$(UV) venv --quiet --clear --python 3.13 .venv-newest
	$(UV) pip install --quiet --no-cache --python .venv-newest -e '.[all]' --group tests
	.venv-newest/bin/python -m pytest --spark local -W default

# Sessions that start side by side must not fetch the same jars side by side: Ivy takes no lock.
jars: .venv/ready java
	$(BIN)/python tests/archive_classes.py

# Five hundred tables with columns, values, nulls, partitions and batches drawn at random.
fuzz: .venv/ready java
	$(BIN)/python -m pytest --spark local --hypothesis-profile fuzz tests/test_fuzz.py

# Ten minutes of changes, kills and re-runs at random.
chaos: .venv/ready java
	$(BIN)/python tests/chaos.py --minutes 10

# PyTorch comes with three gigabytes of CUDA, so its flavor has an environment and a command of its own.
pytorch: .venv-pytorch/ready java
	.venv-pytorch/bin/python -m pytest --spark local tests/test_flavors.py -k torch

bench: .venv/ready .venv-official/ready .venv-evidently/ready java
	set -e; for file in tests/benchmarks/*.py; do $(BIN)/python $$file; done

pins: uv
	$(COMPILE) pyproject.toml --extra demo --extra azure --extra aml --extra testing --group dev --python-version 3.10 -o requirements/dev.txt
	$(COMPILE) --group pyproject.toml:oldest --python-version 3.11 -o requirements/oldest.txt
	$(COMPILE) --group pyproject.toml:official --python-version 3.11 -o requirements/official.txt
	$(COMPILE) --group pyproject.toml:evidently --python-version 3.11 -o requirements/evidently.txt

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

.venv-pytorch/ready: requirements/dev.txt pyproject.toml | uv
	$(UV) venv --quiet --allow-existing --python 3.11 .venv-pytorch
	$(UV) pip install --quiet --no-cache --python .venv-pytorch -r requirements/dev.txt torch
	$(UV) pip install --quiet --python .venv-pytorch --no-deps --no-build-isolation -e .
	touch $@

.venv-official/ready: requirements/official.txt | uv
	$(UV) venv --quiet --allow-existing --python 3.11 .venv-official
	$(INSTALL) --python .venv-official -r requirements/official.txt
	touch $@

.venv-evidently/ready: requirements/evidently.txt | uv
	$(UV) venv --quiet --allow-existing --python 3.11 .venv-evidently
	$(INSTALL) --python .venv-evidently -r requirements/evidently.txt
	touch $@

# Microsoft's emulator of Azure Storage, where npm is there; its tests are skipped where it isn't.
.azurite/ready: requirements/azurite/package-lock.json
	@mkdir -p .azurite && cp requirements/azurite/*.json .azurite
	@! command -v npm >/dev/null || (npm ci --prefix .azurite --silent --no-audit --no-fund && touch $@)

uv:
	@command -v uv >/dev/null || $(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv

java:
	@.ci/java

# The report's page is tested in it; those tests are skipped where it can't be installed.
browser:
	@.ci/browser || true

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-official .venv-evidently .venv-pytorch .azurite dist .pytest_cache .mypy_cache .ruff_cache aml-spark-demo
