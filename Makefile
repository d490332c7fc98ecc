# docray's verbs. Each does all its own set-up on a fresh clone; Python 3.11+ and make are all that is assumed.
#
#   make run [DATA_DIR=.docray] [PORT=8000]   set up, start docray, ingest the samples, print one cited answer; docray stays up
#   make stop                                 stop it
#   make test [TESTS="tests/unit -k name"]    set up and run the tests
#   make lint                                 ruff, mypy, import contracts, manifests, links
#   make setup-bulk                           set up what `docray ingest --bulk` needs (Ray Data)
#   make lock                                 resolve requirements/*.in anew into requirements/*.lock
#
# TORCH_INDEX=URL takes torch for the tests from another index (a CPU build is 1 GB, the default CUDA build 4.5 GB).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.PHONY: run stop test lint lock setup setup-test setup-bulk clean help

PYTHON ?= python3
DATA_DIR ?= .docray
PORT ?=
TESTS ?= tests
TORCH_INDEX ?=
UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
DOCRAY := .venv/bin/docray
QUESTION := How long did the night crossing of the ferry Maren take, and why was it delayed?

help:
	sed -n '3,10p' Makefile | cut -c3-

$(UV):
	$(PYTHON) -c 'import sys; sys.exit("docray needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

setup: .venv/.docray
setup-test: .venv-test/.docray
setup-bulk: .venv-bulk/.docray

# A virtual environment that holds exactly what its lock names, and docray itself from this checkout. Compiled at once: where
# PYTHONDONTWRITEBYTECODE is set, each of a dozen processes would else compile everything at each start.
.venv/.docray: requirements/laptop.lock pyproject.toml | $(UV)
	echo "Setting up .venv (about 1.3 GB, once) …"
	test -x .venv/bin/python || $(PYTHON) -m venv --without-pip .venv
	$(UV) pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements/laptop.lock
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --editable .
	.venv/bin/python -m compileall -q docray serve_apps models
	touch $@

# What `docray ingest --bulk` runs in: .venv with Ray Data.
.venv-bulk/.docray: requirements/bulk.lock pyproject.toml | $(UV)
	echo "Setting up .venv-bulk (about 1.5 GB, once) …"
	test -x .venv-bulk/bin/python || $(PYTHON) -m venv --without-pip .venv-bulk
	$(UV) pip sync --quiet --compile-bytecode --python .venv-bulk/bin/python --require-hashes requirements/bulk.lock
	$(UV) pip install --quiet --python .venv-bulk/bin/python --no-deps --editable .
	.venv-bulk/bin/python -m compileall -q docray models pipelines
	touch $@

.venv-test/.docray: requirements/test.lock pyproject.toml | $(UV)
	echo "Setting up .venv-test (with torch, once) …"
	test -x .venv-test/bin/python || $(PYTHON) -m venv --without-pip .venv-test
	if [ -n "$(TORCH_INDEX)" ]; then
		$(UV) pip sync --quiet --compile-bytecode --python .venv-test/bin/python --index "$(TORCH_INDEX)" --index-strategy unsafe-best-match --no-verify-hashes requirements/test.lock
	else
		$(UV) pip sync --quiet --compile-bytecode --python .venv-test/bin/python --require-hashes requirements/test.lock
	fi
	$(UV) pip install --quiet --python .venv-test/bin/python --no-deps --editable .
	.venv-test/bin/python -m compileall -q docray serve_apps models pipelines
	touch $@

run: setup
	$(DOCRAY) up --data-dir "$(DATA_DIR)" $(if $(PORT),--port $(PORT),)
	$(DOCRAY) ingest samples --data-dir "$(DATA_DIR)"
	echo
	echo "Question: $(QUESTION)"
	echo
	$(DOCRAY) ask "$(QUESTION)" --data-dir "$(DATA_DIR)"
	echo
	echo "docray stays up. Ask it:      $(DOCRAY) ask \"…\"$(if $(filter .docray,$(DATA_DIR)),, --data-dir $(DATA_DIR))"
	echo "Add your PDFs:                $(DOCRAY) ingest FILE-OR-FOLDER"
	echo "Its API, tried in a browser:  the URL above with /docs; the key is in $(DATA_DIR)/instance.json"
	echo "Stop it:                      make stop$(if $(filter .docray,$(DATA_DIR)),, DATA_DIR=$(DATA_DIR))"

stop:
	if [ -x $(DOCRAY) ]; then $(DOCRAY) down --data-dir "$(DATA_DIR)"; else echo "Nothing was set up."; fi

# Servers of tests that no package holds. Without Go the tests that need them are skipped, with that reason.
.tools/bin/versitygw:
	if command -v go > /dev/null; then
		echo "Building an S3 server for the tests (a minute or two, once) …"
		GOBIN="$(CURDIR)/.tools/bin" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	fi

test: setup-test .tools/bin/versitygw
	HF_HUB_OFFLINE=1 .venv-test/bin/python -m pytest $(TESTS)

lint: setup-test
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports
	.venv-test/bin/python -m pytest -q tests/architecture

# One joint resolution; the other locks are held to it, so no two parts of docray ask for different versions.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --no-emit-index-url --no-annotate --generate-hashes --custom-compile-command 'make lock'
lock: $(UV)
	cd requirements
	../$(COMPILE) all.in --override all.overrides -o all.lock
	../$(COMPILE) laptop.in --override laptop.overrides -c all.lock -o laptop.lock
	../$(COMPILE) bulk.in --override laptop.overrides -c all.lock -o bulk.lock
	../$(COMPILE) test.in -c all.lock -o test.lock

clean:
	rm -rf .venv .venv-test .venv-bulk .tools .mypy_cache .ruff_cache .pytest_cache
