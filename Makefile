# One target a chore. Each installs what it needs; nothing is written outside this folder but Debian packages.
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
SOURCES := core milter logparse pixelserver console cli lab

.PHONY: help demo test test-min lint type check bench bench-milter bench-logparse bench-pixel fuzz fuzz-coverage who-table dashboard deb test-deb clean apt test-browser fuzz-tokens bench-report

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# Debian packages: libmilter to build pymilter, Postfix and its tools to run the demo and the tests against.
APT := gcc python3-dev python3-venv libmilter-dev postfix
APT_TEST := $(APT) opendkim opendkim-tools miltertest pflogsumm nginx-light systemd-journal-remote prometheus mandoc man-db

# Half of the time goes by in waiting for an MTA. A file's tests stay together: they share a Postfix.
PARALLEL := --numprocesses 3 --dist loadfile

apt:
	@sh contrib/install-packages.sh $(APT)

$(VENV)/.installed: pyproject.toml
	@sh contrib/install-packages.sh $(APT)
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## Real mail through a private Postfix, told as one story (half a minute)
	PYTHONPATH=lab $(PY) -m postwake_lab.demo

test: $(VENV)/.installed ## The tests, a real Postfix included
	@sh contrib/install-packages.sh $(APT_TEST)
	$(PY) -m pytest $(PARALLEL)

test-browser: $(VENV)/.installed ## The unsubscribe page in a real Chromium (installs it: a minute, 440 MB)
	@sh contrib/install-packages.sh chromium chromium-driver
	$(PY) -m pytest tests/pixelserver/test_chromium.py

lint: $(VENV)/.installed ## Style, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.installed ## Types
	$(BIN)/mypy

test-min: ## The tests without the MTAs, with the oldest dependencies we say we work with
	@sh contrib/install-packages.sh $(APT_TEST)
	test -d .venv-min || python3 -m venv .venv-min
	.venv-min/bin/pip install --quiet --disable-pip-version-check --constraint constraints-min.txt --editable '.[dev]'
	.venv-min/bin/python -m pytest $(PARALLEL) --ignore=tests/e2e

bench: bench-milter bench-logparse bench-report bench-pixel ## All benchmarks against peers, each in one run

bench-milter: $(VENV)/.installed ## Added latency and throughput beside OpenDKIM, a do-nothing milter, none
	@sh contrib/install-packages.sh $(APT_TEST)
	PYTHONPATH=lab $(PY) bench/milter_speed.py

bench-logparse: $(VENV)/.installed ## Log ingestion beside pflogsumm
	@sh contrib/install-packages.sh $(APT_TEST)
	PYTHONPATH=lab $(PY) bench/logparse.py

bench-report: $(VENV)/.installed ## Reports over a year of a hundred million events
	$(PY) bench/report.py

bench-pixel: $(VENV)/.installed ## Recorded hits beside a static reply
	@sh contrib/install-packages.sh $(APT_TEST)
	PYTHONPATH=lab $(PY) bench/pixel.py

fuzz: $(VENV)/.installed ## 10,000 mutated mails through the rewriting engine, judged by the standard library
	$(PY) bench/fuzz_rewrite.py --inputs 10000

fuzz-coverage: $(VENV)/.installed ## 60,000 inputs led by coverage into each of five parts of it (twenty minutes at most)
	$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3'
	$(PY) bench/fuzz_coverage.py

fuzz-tokens: $(VENV)/.installed ## A million forged tokens, every one refused, and whether refusing takes a telling time
	$(PY) tests/pixelserver/forgery.py

who-table: $(VENV)/.installed ## How the labelled requests are judged: people, machines, unknown
	$(PY) tests/pixelserver/confusion.py

deb: ## Build the Debian package into dist/
	@sh contrib/install-packages.sh debhelper dh-virtualenv dpkg-dev fakeroot python3-dev python3-venv gcc libmilter-dev
	sh contrib/debian/build.sh

test-deb: $(VENV)/.installed deb ## Install the package on a clean Debian root, use it, purge it
	@sh contrib/install-packages.sh debootstrap
	POSTWAKE_DEB=$$(ls $(CURDIR)/dist/postwake_*.deb | tail -1) $(PY) -m pytest tests/package --timeout 900

dashboard: $(VENV)/.installed ## Plot the dashboard's queries, asked of a real Prometheus, into docs/dashboard.svg
	@sh contrib/install-packages.sh $(APT_TEST)
	PYTHONPATH=lab $(PY) -m postwake_lab.dashboard

check: lint type test ## All of the above

clean: ## Remove what make made
	rm -rf $(VENV) .venv-min build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: docs
docs: $(VENV)/.installed ## Write the pages that are made from the code
	$(PY) contrib/make-docs.py
