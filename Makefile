# The commands of the project. `make demo` and `make test` need nothing but Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPEED := benchmarks/speed
SPEED_READY := $(VENV)/.ready-speed

# The first interpreter that is new enough; `make setup PYTHON=...` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Real recordings for the tests that want them; see CONTRIBUTING.md.
ifneq ($(wildcard ../shared/data),)
SOUNDPROOF_DATA ?= $(abspath ../shared/data)
endif
export SOUNDPROOF_DATA

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format docs tables smoke speed lock clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything in it, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@test -n "$(strip $(PYTHON))" || { echo "Soundproof needs Python 3.11 or newer; install it, or run make with PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Setting up $(VENV) (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[synthetic,styles,stealth,nisqa,analysis,transformers,onnx,ray,dev,docs]'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt pyworld pesq \
		|| echo 'no C++ compiler: voice conversion with WORLD (pyworld) and PESQ are left out, and their tests are skipped' >&2
	@touch $@

demo: $(READY) ## Poison, train, repair and report on a small synthetic corpus, into runs/demo
	@$(BIN)/soundproof demo --out runs/demo

test: $(READY) ## Run the tests (ARGS="-k name" chooses some)
	@$(BIN)/pytest $(ARGS)

lint: $(READY) ## Check style, format, types and layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(READY) ## Put the code into the project's format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(READY) ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

tables: $(READY) ## Make the tables of results in README.md and docs anew, from benchmarks/results
	@$(BIN)/python -m benchmarks.tables

smoke: $(READY) ## Run the smoke suite of the benchmark from the beginning (minutes)
	@rm -rf runs/smoke
	@$(BIN)/soundproof bench run smoke --results runs/smoke --work runs/smoke/work

$(SPEED_READY): $(READY) $(SPEED)/requirements.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --requirement $(SPEED)/requirements.txt
	@touch $@

speed: $(SPEED_READY) ## Time Soundproof against its peers and against the limit
	@$(BIN)/python -m benchmarks.speed

lock: $(READY) ## Write the installed versions to constraints.txt
	@echo "# The exact versions that make setup installs; written by make lock." > constraints.txt.part
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' >> constraints.txt.part
	@mv constraints.txt.part constraints.txt

clean: ## Remove everything that the commands above have made
	rm -rf $(VENV) runs site dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +
