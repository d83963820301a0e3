# Needs make and Python 3.11 or newer, nothing else: without uv on PATH, .tools/ gets one.

PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run
WHEEL_DIR ?= dist
# On two processes: `make test PYTEST=` runs everything in one, in the order of its seed.
PYTEST ?= -n 2 --dist worksteal
# Playwright leaves an event loop in its thread, where no async test works any more. In one process
# these tests come last; of two, one may be done with them when it takes over what the other has left.
BROWSER_APART := --ignore=tests/browser
# What runs on one database is not run again on the next: the database does not come into it.
NOT_AGAIN := $(addprefix --ignore-glob=,tests/browser 'tests/client/test_[!f]*.py' \
  tests/test_docs.py tests/test_keys.py tests/test_pg_launcher.py tests/test_security_table.py \
  tests/proof/test_history.py tests/proof/test_model_mutations.py tests/proof/test_model_protocol.py)
# What a database, a Django or a Python may change.
ON_DATABASES := tests/conformance tests/test_databases.py tests/test_races.py tests/test_traps.py \
  tests/test_traps_outer.py tests/test_traps_database.py tests/test_models.py tests/test_purge.py \
  tests/test_trace.py tests/test_quota.py tests/test_second_lines.py tests/test_promises.py \
  tests/test_exactness.py tests/test_statements.py tests/proof/test_take_overs.py \
  tests/proof/test_overtaken.py tests/proof/test_storms.py tests/proof/test_model_races.py \
  tests/proof/test_stateful.py

# `make test PYTHON=python3.13` runs everything on that Python.
ifneq ($(origin PYTHON),file)
export UV_PYTHON := $(PYTHON)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test mariadb ends matrix check bench coverage mutate screenshots wheel format clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: $(UV) ## Run the example project with two weeks of history: site, API, admin
	$(RUN) python manage.py demo

test: $(UV) ## Run all tests on PostgreSQL, then those that a database may change on SQLite
	TEST_DB=postgres $(RUN) pytest $(PYTEST) $(BROWSER_APART)
	TEST_DB=postgres $(RUN) pytest $(PYTEST) tests/browser
	TEST_DB=sqlite $(RUN) pytest $(PYTEST) $(NOT_AGAIN)

mariadb: $(UV) ## Run what depends on the database on MariaDB, from the system's packages
	TEST_DB=mariadb $(RUN) pytest $(PYTEST) $(ON_DATABASES) tests/test_innodb.py

ends: $(UV) ## Run it, less the proofs, on the oldest and the newest of all that we promise
	UV=$(UV) $(PYTHON) -m tests.matrix --only ends --db postgres -- \
	  $(PYTEST) $(filter-out tests/proof/%,$(ON_DATABASES)) tests/admin

matrix: $(UV) ## Run the tests on every Python and Django that we promise, the oldest included
	UV=$(UV) $(PYTHON) -m tests.matrix $(or $(MATRIX),-- $(PYTEST))

check: $(UV) ## Check format, style, types, imports, dependencies, migrations, settings
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports --no-logo
	$(RUN) deptry django_idempotency
	$(RUN) python manage.py makemigrations --check --dry-run
	$(RUN) python manage.py check --fail-level WARNING

bench: $(UV) ## Measure what protection costs, on PostgreSQL with fsync
	$(RUN) python -m benchmarks

coverage: $(UV) ## Measure what the tests reach, on both databases together
	$(RUN) coverage erase
	TEST_DB=postgres $(RUN) coverage run -m pytest
	TEST_DB=sqlite $(RUN) coverage run -m pytest
	$(RUN) coverage combine --quiet
	$(RUN) coverage report

mutate: $(UV) ## Plant faults in a copy, one at a time, and see the tests fail
	$(RUN) python -m tests.proof.mutations

screenshots: $(UV) ## Take the pictures in docs/images anew, with the demo's history
	TEST_DB=sqlite REQUIRE_BROWSER=1 $(RUN) pytest -q tests/browser/make_screenshots.py
	TEST_DB=sqlite REQUIRE_BROWSER=1 $(RUN) pytest -q -W default --ds=tests.settings_unfold tests/browser/make_screenshots.py

wheel: $(UV) ## Build the source archive and, from it, the wheel
	$(UV) build --quiet --out-dir $(WHEEL_DIR)

format: $(UV) ## Format the code and apply safe fixes
	$(RUN) ruff check --fix --exit-zero --quiet
	$(RUN) ruff format

clean: ## Delete what these commands created, the demo's database included
	rm -rf .tools .venv dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -rf .hypothesis .coverage .coverage.* htmlcov demo.sqlite3*

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "This project needs Python 3.11 or newer to be called $(PYTHON), or another name: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
