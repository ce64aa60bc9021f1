# Everything runs in ./.venv, which the targets make themselves. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := requirements/constraints.txt
OUT ?= out

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Gristmill needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "No venv module here. On Debian: apt-get install python3-venv"; exit 1; }
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/.core: .venv/.made pyproject.toml $(CONSTRAINTS)
	@echo "Installing Gristmill into .venv (once) ..."
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable .
	@touch $@

.venv/.dev: .venv/.core
	@echo "Installing the development tools into .venv (once) ..."
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[albumentations,dicom,ray,text]' --group dev
	@touch $@

.PHONY: install
install: .venv/.core ## make .venv with the command `gristmill` in it

.PHONY: dev
dev: .venv/.dev ## the same with the development tools

.PHONY: demo
demo: .venv/.core ## run the main job on the sample data, and say where the report is
	@$(BIN)/gristmill run configs/quickstart.yaml --set lake=$(CURDIR)/$(OUT)/demo

.PHONY: data
data: .venv/.core ## fetch the larger public data sets into the cache (see configs/samples/README.md)
	@$(BIN)/python benchmarks/data.py fetch

.PHONY: test
test: .venv/.dev ## all tests but those of `make test-soak`
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m 'not soak'

.PHONY: test-soak
test-soak: .venv/.dev ## the tests that take minutes each: half an hour of constant load, clusters that lose nodes
	@$(BIN)/python -m pytest -m soak -s
	@GRISTMILL_KILLS=40 GRISTMILL_WRITERS=8 $(BIN)/python -m pytest tests/pipeline/test_faults.py \
	  tests/pipeline/test_faults_ray.py tests/pipeline/test_many_writers.py

TORCH := torch==2.13.0 torchvision==0.28.0

.PHONY: test-torch
test-torch: .venv/.dev ## the tests that need PyTorch, which it installs (everything else goes without)
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) $(TORCH)
	@$(BIN)/python -m pytest tests/pipeline/loader/test_torch.py tests/augment/test_torchvision.py

OTHERS := .venv/others
AIRFLOW := apache-airflow==3.3.2
DAGSTER := dagster==1.13.29

$(OTHERS)/%/.made: pyproject.toml
	@echo "Installing $* beside .venv (once) ..."
	@$(PYTHON) -m venv $(OTHERS)/$*
	@$(OTHERS)/$*/bin/python -m pip --disable-pip-version-check install --quiet --editable . \
	  $(if $(filter airflow,$*),'$(AIRFLOW)','$(DAGSTER)') hypothesis kubernetes-validate 'pytest>=9.0' pytest-timeout
	@touch $@

# KubeRay's schemas are in no registry: KUBERAY_CRDS=FOLDER names its ray-operator/config/crd/bases, if you have it.
.PHONY: test-integrations
test-integrations: $(OTHERS)/airflow/.made $(OTHERS)/dagster/.made ## the tests of other schedulers: Airflow, Dagster, Kubernetes' schemas
	@$(OTHERS)/airflow/bin/python -m pytest -W ignore tests/pipeline/render/test_airflow.py
	@$(OTHERS)/dagster/bin/python -m pytest -W ignore tests/pipeline/render/test_dagster.py tests/pipeline/render/test_kubernetes.py

.PHONY: test-quick
test-quick: .venv/.dev ## the tests that take less than ten seconds each, without Ray
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m 'not slow and not ray and not soak'

.PHONY: lint
lint: .venv/.dev ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: .venv/.dev ## mypy, strict
	@$(BIN)/mypy

.PHONY: imports
imports: .venv/.dev ## the layers and who may import what
	@$(BIN)/lint-imports

.PHONY: format
format: .venv/.dev ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: wheel
wheel: .venv/.dev ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	@ls dist/*.whl

.PHONY: check
check: lint types imports test ## what CI runs, but for the demo and the wheel

.PHONY: constraints
constraints: .venv/.dev ## write down the versions that are installed now
	@$(PIP) freeze --exclude-editable | grep -v -E '^(pip|setuptools|wheel)==' > $(CONSTRAINTS)

.PHONY: clean
clean: ## remove what was built, not .venv
	@rm -rf build dist $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
