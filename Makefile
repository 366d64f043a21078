# `make up` runs the platform, `make test` its tests. Both first bring the virtual environment up to date.
#
#   make up      PORT=8000 DATA_DIR=.data ARGS=--no-demo
#   make test    ARGS="-k status"
#   make test-slow                 what is not in `make test`: the tools of maintainers, and every page of the admin
#   make replay  FILE=trace.json SPEED=60 ARGS="--executions 3"
#   make fuzz    EXAMPLES=200      the API with random data, longer than `make test` does
#   make abuse   ARGS="-k body"    hostile requests and frames in full size, and the table of docs/abuse.md (ten minutes)
#   make openapi                   writes openapi.yaml
#   make bench   ARGS="--only 'status:10:*'"    throughput, times and memory beside bare SQL (ten minutes)
#   make bench-growth ARGS="--rows 1000000"     the same with a hundred times the rows (a quarter of an hour, 6 GB)
#   make bench-live ARGS="--seconds 600"       1,000 sockets under load: times, nothing lost, memory (a minute)
#   make faults ARGS="--only 'web*'"    processes and servers killed under load, and what held (ten minutes)
#   make integrations ARGS="-k prefect"  the client with Prefect and Airflow (three minutes, and a GB the first time)
#   make screenshots PAGES="flows flow"        the pictures of docs/pages.md (half a minute)
#   make audit                     looks the locks up among the known vulnerabilities (needs the internet)
#   make sbom    FILE=sbom.cdx.json        writes what the platform consists of, as CycloneDX
#   make lint    make lock    make clean

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install -qq --no-input --disable-pip-version-check --require-hashes

# An environment whose interpreter is gone (half made, moved, or Python was upgraded) counts as not installed.
ifneq ($(shell $(RUN) -c 'print(1)' 2>/dev/null),1)
$(VENV)/.installed: remake
endif

.PHONY: help up test test-slow integrations fuzz abuse faults replay bench bench-growth bench-live screenshots openapi audit sbom lint lock clean remake

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^An environment/,$$d'

up: $(VENV)/.installed
	@exec $(RUN) manage.py up $(if $(PORT),--port $(PORT)) $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(ARGS)

test: $(VENV)/.installed-dev
	@exec $(RUN) -m pytest -n 4 --dist worksteal -m 'not slow' $(ARGS)

test-slow: $(VENV)/.installed-dev
	@exec $(RUN) -m pytest -n 2 --dist worksteal -m slow $(ARGS)

# Their packages clash with ours, so each has an environment of its own.
integrations: $(VENV)/.installed-dev .integrations/prefect/.installed .integrations/airflow/.installed
	@INTEGRATIONS=whole exec $(RUN) -m pytest -q --timeout 900 tests/integrations $(ARGS)

fuzz: $(VENV)/.installed-dev
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) exec $(RUN) -m pytest tests/test_fuzz.py tests/test_odd_requests.py --timeout 0 $(ARGS)

abuse: $(VENV)/.installed-dev
	@ABUSE=whole exec $(RUN) -m pytest -q tests/abuse $(ARGS)

faults: $(VENV)/.installed-dev
	@exec $(RUN) -m tests.faults $(ARGS)

replay: $(VENV)/.installed
	@test -n "$(FILE)" || { echo "Say which trace to play: make replay FILE=trace.json" >&2; exit 1; }
	@exec $(RUN) manage.py replay "$(FILE)" $(if $(SPEED),--speed $(SPEED)) \
		$(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(ARGS)

bench: $(VENV)/.installed
	@exec $(RUN) -m benchmarks $(ARGS)

bench-growth: $(VENV)/.installed
	@exec $(RUN) -m benchmarks.growth $(ARGS)

bench-live: $(VENV)/.installed
	@exec $(RUN) -m benchmarks.live $(ARGS)

screenshots: $(VENV)/.installed-dev
	@exec $(RUN) -m docs.screenshots $(PAGES)

openapi: $(VENV)/.installed
	@exec $(RUN) manage.py spectacular --validate --fail-on-warn --file openapi.yaml

audit: $(VENV)/.installed-dev
	@exec $(RUN) deploy/audit.py $(ARGS)

sbom: $(VENV)/.installed-dev
	@$(RUN) deploy/sbom.py > $(or $(FILE),sbom.cdx.json)

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

lock: $(VENV)/.installed
	$(RUN) -m pip install -qq uv
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes requirements-telemetry.in -o requirements-telemetry.txt
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes requirements-dev.in -o requirements-dev.txt
	cd tests/integrations && $(CURDIR)/$(VENV)/bin/uv pip compile --no-annotate --python-version 3.11 prefect.in -o prefect.txt
	cd tests/integrations && $(CURDIR)/$(VENV)/bin/uv pip compile --no-annotate --python-version 3.11 airflow.in -o airflow.txt

clean:
	rm -rf $(VENV) .integrations staticfiles client/.ruff_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "The data in .data is kept; delete that folder yourself to start with an empty platform."

$(VENV)/.installed: requirements.txt deploy/link_client.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"Python 3.11 or newer is needed, and $(PYTHON) is not: name one, as in make up PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
		"$(PYTHON) has no venv module: install it first (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || { \
		echo "Creating the virtual environment…"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "Installing the pinned packages (about half a minute, once)…"
	@$(INSTALL) -r requirements.txt || { \
		echo "The packages could not be installed, for the reason above; the same command tries again." >&2; exit 1; }
	@$(RUN) deploy/link_client.py
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "Installing what the tests and checks need (a quarter of a minute, once)…"
	@$(INSTALL) -r requirements-dev.txt || { \
		echo "The packages could not be installed, for the reason above; the same command tries again." >&2; exit 1; }
	@touch $@

.integrations/%/.installed: tests/integrations/%.txt client/pyproject.toml
	@echo "Installing $* (a minute, once)…"
	@rm -rf .integrations/$* && $(PYTHON) -m venv .integrations/$*
	@.integrations/$*/bin/python -m pip install -qq --no-input --disable-pip-version-check -r $< -e ./client || { \
		echo "$* could not be installed, for the reason above; the same command tries again." >&2; exit 1; }
	@touch $@
