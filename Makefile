# `make` alone lists the targets. Everything happens in .venv; nothing is installed anywhere else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help env test check audit docs demo demo-short clean

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONNOUSERSITE := 1

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished
DEMO := examples/photos --class woman --consent --recipe pocket-demo

# Enough to pass through every stage; far too little to learn a person.
SHORT := --set method.unet.max_train_steps=6 --set method.lora.max_train_steps=6 --set training.num_class_images=4 \
	--set training.checkpointing_steps=0 --set generation.num_inference_steps=4 --set generation.num_images_per_scene=1 \
	--set control.num_images=1 --set control.scales=[0,1] --set evaluation.num_timesteps=4 --set study.folds=2 \
	--set study.readings=2

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(INSTALLED) ## make .venv and install into it (about 3 minutes; then at once)

test: env ## run the tests
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: env ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

docs: env ## build the documentation site: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

audit: env ## licences, and known faults, of what is installed
	@$(BIN)/python -m scripts.audit

demo: env ## the whole job on the example photos, with the embedded base: runs/demo/report.html
	@$(BIN)/portrayal run $(DEMO) --quick --out runs/demo

demo-short: env ## every stage of the demo in about a minute, in a folder of its own
	@folder=$$(mktemp -d -t portrayal-demo.XXXXXX); \
	PORTRAYAL_CACHE="$$folder/cache" $(BIN)/portrayal run $(DEMO) $(SHORT) --out "$$folder/run"; \
	test -s "$$folder/run/report.html"

clean: ## remove .venv, caches and builds; runs stay
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests examples pretraining benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted installation leaves .unfinished behind and is begun anew; a finished one is brought up to date.
USABLE := -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

$(INSTALLED): pyproject.toml constraints.txt
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python $(USABLE) 2>/dev/null; then \
		python=; for candidate in $(PYTHON) python3.11 python3; do \
			if "$$candidate" $(USABLE) 2>/dev/null; then python=$$candidate; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "Portrayal needs Python 3.11 or later, with venv (Debian and Ubuntu: apt install python3-venv)." >&2; \
			echo "If it is there under another name: make env PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$("$$python" --version) and installing into it: about three minutes."; \
		rm -rf $(VENV); mkdir $(VENV); touch $(UNFINISHED); "$$python" -m venv $(VENV); \
	else \
		echo "Bringing $(VENV) up to date."; \
		touch $(UNFINISHED); \
	fi
	@$(BIN)/python -m pip install -q -q --constraint constraints.txt --editable '.[dev]'
	@touch $(INSTALLED); rm -f $(UNFINISHED)
