# One target a chore. Each installs what it needs; nothing is written outside this folder but Debian packages.
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
SOURCES := core milter logparse pixelserver feedback console cli lab

.PHONY: help demo test test-min lint type check bench clean apt

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# Debian packages: libmilter to build pymilter, Postfix and its tools to run the demo and the tests against.
APT := gcc python3-dev python3-venv libmilter-dev postfix
APT_TEST := $(APT) opendkim opendkim-tools miltertest pflogsumm nginx-light systemd-journal-remote

apt:
	@sh contrib/install-packages.sh $(APT)

$(VENV)/.installed: pyproject.toml
	@sh contrib/install-packages.sh $(APT)
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## Real mail through a private Postfix, told as one story (two minutes)
	PYTHONPATH=lab $(PY) -m postwake_lab.demo

test: $(VENV)/.installed ## The tests, a real Postfix included
	@sh contrib/install-packages.sh $(APT_TEST)
	$(PY) -m pytest

lint: $(VENV)/.installed ## Style, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.installed ## Types
	$(BIN)/mypy

check: lint type test ## All of the above

clean: ## Remove what make made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: docs
docs: $(VENV)/.installed ## Write the pages that are made from the code
	$(PY) contrib/make-docs.py
