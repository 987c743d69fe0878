# Every target sets up what it needs: `make demo` and `make test` work on an empty clone.
.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint format bench soak reference lock images cluster-up cluster-down cluster-status clean e2e e2e-operator e2e-ground cluster-ground cluster-test bench-k8s bench-operator chaos

PY := .venv/bin/python

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:
	@hack/setup

demo: setup ## the main job on this machine: questions answered, the sandbox attacked, 200 programs at once
	@.venv/bin/warmpool demo

up: setup ## the whole service on this machine, until Ctrl-C
	@.venv/bin/warmpool up

test: setup ## unit, integration and red-team tests, on a real Redis and a real PostgreSQL
	@$(PY) -m pytest $(ARGS)

lint: setup ## ruff, mypy strict, layers, drift of the generated reference
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) hack/reference.py --check
	@$(PY) hack/security.py --check
	@$(PY) hack/chart.py --check
	@$(PY) -m warmpool_operator.crd --check

format: setup ## rewrite with ruff
	@$(PY) -m ruff check --fix --quiet . ; $(PY) -m ruff format .

bench: setup ## measure and write benchmarks/
	@$(PY) -m warmpool_loadtests.bench $(ARGS)

soak: setup ## 10,000 executions through the gateway, 1 % of them hostile, then count what is left
	@$(PY) -m warmpool_loadtests.soak $(ARGS)

images: setup ## build the images whose inputs changed, with docker or buildah; ARGS=gateway for one
	@$(PY) -m hack.images $(ARGS)

cluster-up: setup ## a real Kubernetes on this machine, built from source; 12 minutes once, then 20 s
	@$(PY) -m hack.cluster up

cluster-down: setup ## take it away and leave nothing
	@$(PY) -m hack.cluster down

cluster-status: setup ## what runs of it, and what is wrong if something is
	@$(PY) -m hack.cluster status

# Of the command line only: a KUBECONFIG that happens to be exported names no cluster that may be broken.
ifeq ($(origin KUBECONFIG),command line)
ON_CLUSTER := KUBECONFIG="$(abspath $(KUBECONFIG))" IMAGES="$(abspath $(IMAGES))"
cluster-ground: setup
e2e-ground: setup
else
ON_CLUSTER := KUBECONFIG="$(CURDIR)/.cache/cluster/kubeconfig" PATH="$(CURDIR)/.cache/cluster/bin:$$PATH" NO_PROXY="10.0.0.0/8,$$NO_PROXY"
RESTART_API_SERVER := --restart-api-server "$(PY) -m hack.cluster restart kube-apiserver --down-seconds {seconds}"
cluster-ground: setup  # these not by their targets, which would take ARGS
	@$(PY) -m hack.cluster up
e2e-ground: cluster-ground
	@$(PY) -m hack.images
	@$(PY) -m hack.cluster load .cache/images/*.tar
endif

# Minutes of waiting for deaths, outages and silences; they need no release.
OF_THE_OPERATOR := $(wildcard tests/e2e/test_operator_*.py)

e2e: e2e-ground ## the chart on a real Kubernetes; on another than this machine's: KUBECONFIG=... IMAGES=...
	@$(ON_CLUSTER) $(PY) -m pytest tests/e2e $(addprefix --ignore=,$(OF_THE_OPERATOR)) -o verbosity_assertions=2 $(ARGS)

e2e-operator: e2e-ground ## an operator killed, cut off and misled there
	@$(ON_CLUSTER) $(PY) -m pytest $(OF_THE_OPERATOR) -o verbosity_assertions=2 $(ARGS)

cluster-test: setup ## boot, break and take down a second cluster, and see that nothing of it stays
	@$(PY) -m pytest hack/cluster/tests/e2e hack/images/tests/e2e $(ARGS)

bench-k8s: e2e-ground ## measure on a real Kubernetes and write benchmarks/kubernetes.json
	@$(ON_CLUSTER) $(PY) tests/e2e/bench $(ARGS)

bench-operator: cluster-ground ## the operator with 5,000 pods that kwok plays, into benchmarks/operator.json; ARGS="--pods 500" for fewer
	@kwok="$${KWOK:-$$($(PY) -m hack.cluster kwok)}" && $(ON_CLUSTER) $(PY) tests/e2e/bench_operator --kwok "$$kwok" $(ARGS)

MINUTES ?= 5
chaos: e2e-ground ## MINUTES=60 of random faults under load on a real Kubernetes; then whether all is whole, nothing ran twice
	@$(ON_CLUSTER) $(PY) tests/e2e/chaos --minutes $(MINUTES) $(RESTART_API_SERVER) $(ARGS)

reference: setup ## regenerate docs/reference and the table of docs/security.md from the code
	@$(PY) hack/reference.py
	@$(PY) hack/security.py
	@$(PY) hack/chart.py
	@$(PY) -m warmpool_operator.crd

lock: setup ## rewrite requirements/ from pyproject.toml; ARGS=--upgrade for newer versions
	@hack/lock $(ARGS)

clean: ## remove what make made
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
