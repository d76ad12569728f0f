# Two commands on a bare machine: `make sweep` and `make test`. Both install what they need into .venv.
# PYTHON names the interpreter that creates .venv; by default it is the first usable candidate below.

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
PYTHON ?=
CANDIDATES := python3.11 python3.12 python3.13 python3 python
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

.DEFAULT_GOAL := help
.PHONY: help install sweep test check lint format bench mutants clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1|/' \
	  | while IFS='|' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

install: $(STAMP)  ## create .venv with the exact versions of constraints.txt

sweep: $(STAMP)  ## search for better settings on Ant; more flags: make sweep ARGS="--num-samples 20"
	@$(RUN) -m tuning.sweep --task ant-vel $(ARGS)

test: check  ## everything that continuous integration runs (the same as check)

# Two test files run at once, since many tests wait for processes to start. They run in the order of
# their paths. The default, by number of tests, would run the slow files last, since they have few.
check: lint  ## lint, types, import contracts, tests and doctests
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

lint: $(STAMP)  ## ruff: rules and format, changing nothing
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: $(STAMP)  ## ruff: format, and fix what can be fixed
	$(RUN) -m ruff format
	$(RUN) -m ruff check --fix

bench: $(BENCH_STAMP)  ## measure speed against peers; more flags: make bench ARGS="--quick" or "--resume"
	@$(RUN) -m experiments.benchmarks $(ARGS)

mutants: $(STAMP)  ## make 300 small wrong changes, one at a time, and show those that no quick test finds
	@$(RUN) -m experiments.mutants $(ARGS)

clean:  ## remove caches and builds; the environment and the results in runs/ stay
	rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# pip runs in the foreground so that Ctrl-C reaches it; the clock beside it ends with the shell.
$(STAMP): pyproject.toml constraints.txt
	@set -eu; \
	python=''; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
	  if "$$candidate" -c '$(SUPPORTED)' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python >= 3.11 and < 3.14 is needed, but none was found under the names:" >&2; \
	  for candidate in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
	    echo "  $$candidate: $$("$$candidate" --version 2>&1 | tail -n 1)" >&2; \
	  done; \
	  echo "Install one, or name yours: make $(or $(MAKECMDGOALS),install) PYTHON=python3.11" >&2; \
	  exit 1; \
	fi; \
	if ! $(RUN) -c '$(SUPPORTED)' >/dev/null 2>&1; then "$$python" -m venv --clear $(VENV); fi; \
	echo "Installing into $(VENV) with $$($(RUN) --version); this takes a few minutes the first time."; \
	start=$$(date +%s); \
	( while sleep 1; do \
	    elapsed=$$(( $$(date +%s) - start )); \
	    if [ $$(( elapsed % 15 )) -eq 0 ]; then echo "  installing: $$elapsed s"; fi; \
	  done ) & clock=$$!; \
	trap 'kill $$clock 2>/dev/null || true' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install -qq -c constraints.txt -e '.[all,dev]'; \
	touch $@; \
	echo "Installed in $$(( $$(date +%s) - start )) s."

# Only the benchmarks need the peers: no test and no other target does.
$(BENCH_STAMP): $(STAMP)
	@echo "Installing the peers of the benchmarks into $(VENV)."
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install -qq -c constraints.txt -e '.[bench]'
	@touch $@
