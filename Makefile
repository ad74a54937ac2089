# Every target works on a fresh machine with Python 3.11 and make. `make` lists them.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CHECKOV := build/checkov/bin/checkov
# The four calls, once more with all graphs on a real Triton; test_parity.py passes as well, and takes a minute.
WIRE_ON_TRITON := $(patsubst %,tests/wire/test_%.py,generate invert mix interpolate noise sources without_styles)
PROTO_FILES := $(wildcard protos/stylewire/v1/*.proto)
OIP := protos/inference/grpc_service.proto
RUN_BENCH := PYTHONPATH=bench:tests python -m
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  %-17s %s\n", $$1, $$2}'

# --- set-up ----------------------------------------------------------------------------------------------------------

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"

$(VENV)/.serve: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[server,cpu]'
	@touch $@

$(VENV)/.develop: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[server,cpu,torch,openvino,ncnn,triton,video,tracing,align,export]' --group dev
	@touch $@ $(VENV)/.serve

install: $(VENV)/.develop ## set up .venv with everything that developing needs

# --- work ------------------------------------------------------------------------------------------------------------

protos: $(VENV)/.develop ## generate service/stylewire/v1 and service/stylewire/inference from protos/
	rm -f service/stylewire/v1/*_pb2*
	python -m grpc_tools.protoc -Iprotos --python_out=service --mypy_out=quiet:service $(PROTO_FILES)
	python -m grpc_tools.protoc -Iprotos --grpc_python_out=service --mypy_grpc_out=quiet:service $(filter %_service.proto,$(PROTO_FILES))
	mkdir -p build/oip
	python -m grpc_tools.protoc -Iprotos --descriptor_set_out=service/stylewire/inference/grpc_service.binpb --mypy_out=quiet:build/oip $(OIP)
	cp build/oip/inference/grpc_service_pb2.pyi service/stylewire/inference/

format: $(VENV)/.develop ## rewrite the code in the house's format
	ruff format .
	ruff check --fix --unsafe-fixes .
	buf format --write protos

docs: $(VENV)/.develop ## write docs/settings.md and docs/api.md from the code
	.ci/update-docs

screens: $(VENV)/.develop ## write what the commands on docs/cli.md print
	.ci/update-screens

check: $(VENV)/.develop ## format, lint, and the unit tests of the rooms that you touched; says what it leaves out
	@OMP_NUM_THREADS=1 .ci/check

lint: $(VENV)/.develop ## check everything that needs no run; each failing check has a target that fixes it
	@ruff format --check . || { echo "-> make format"; exit 1; }
	@ruff check . || { echo "-> make format fixes some of these"; exit 1; }
	@mypy
	@lint-imports --no-logo
	@buf lint protos
	@buf format --diff --exit-code protos || { echo "-> make format"; exit 1; }
	@.ci/check-protos
	@.ci/update-docs --check
	@hadolint deploy/Dockerfile

# --- run -------------------------------------------------------------------------------------------------------------

build/prometheus: # without it, the tests that need it are skipped and say so
	@.ci/fetch-prometheus >/dev/null || true

build/perf-analyzer: | $(VENV)/.develop # likewise
	@.ci/fetch-perf-analyzer >/dev/null || true

build/triton: | $(VENV)/.develop # the same
	@.ci/fetch-triton >/dev/null || true

test: $(VENV)/.develop build/prometheus build/perf-analyzer build/triton $(CHECKOV) ## run all tests
	OMP_NUM_THREADS=1 python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(PYTEST)
	$(if $(PYTEST),,OMP_NUM_THREADS=1 python -m pytest --triton $(WIRE_ON_TRITON))

demo: $(VENV)/.serve ## start the server on the demo models, call every RPC, write out/index.html
	python -m stylewire.demo --out out

bench: bench-serving ## print all tables of speed; never part of the tests

bench-serving: $(VENV)/.develop ## efficiency, latency, overload, fairness, the path of a call; needs h2load (BENCH="efficiency64": one table)
	$(RUN_BENCH) serving $(BENCH)

bench-models: $(VENV)/.develop ## each backend on each network, over the published form in PyTorch (BENCH="--networks 1024")
	$(RUN_BENCH) models $(BENCH)

bench-peers: $(VENV)/.develop ## the same model behind seven other servers, each installed first (BENCH="--peers mosec"); needs h2load
	bench/serving/peers/setup.sh
	$(RUN_BENCH) serving.peers $(BENCH)

bench-oip: $(VENV)/.develop build/perf-analyzer build/triton ## perf_analyzer against this server and against Triton's Python backend
	$(RUN_BENCH) serving.oip $(BENCH)

bench-reload: $(VENV)/.develop ## memory over 20 reloads under light load (BENCH="--backend openvino build/bench/seeded256")
	$(RUN_BENCH) serving.reload $(BENCH)

bench-provenance: $(VENV)/.develop ## what it costs to say in a file where it comes from (BENCH="--sizes 64")
	$(RUN_BENCH) serving.provenance $(BENCH)

bench-projection: $(VENV)/.develop ## what optimizing codes gains, and what it costs other calls (BENCH="gain --pictures 4")
	$(RUN_BENCH) models.projection $(BENCH)

bench-sdk: $(VENV)/.develop ## what a call of the SDK adds, whether it keeps a server busy, its size (BENCH="overhead")
	$(RUN_BENCH) serving.sdk $(BENCH)

bench-cli: $(VENV)/.develop ## how fast the command line starts (BENCH="--rounds 30")
	$(RUN_BENCH) serving.cli $(BENCH)

bench-faces: $(VENV)/.develop ## the search for faces by size, and what it costs other calls (BENCH="--rounds 3")
	$(RUN_BENCH) serving.faces $(BENCH)

bench-video: $(VENV)/.develop ## frames as MP4 and WebM over PNG: time, size, likeness, memory (BENCH="--sizes 64")
	$(RUN_BENCH) serving.video $(BENCH)

bench-cluster: $(VENV)/.develop ## rollouts, kills and new servers under load, through Envoy and without (BENCH="--calls 100")
	$(RUN_BENCH) scale.rollouts $(BENCH)

bench-triton: $(VENV)/.develop build/triton ## what stylewire costs in front of Triton, and what shared memory gains (BENCH="--sizes 64")
	$(RUN_BENCH) serving.triton_front $(BENCH)

bench-fuzz: $(VENV)/.develop ## 200,000 hostile requests in process and 4,000 over gRPC (BENCH="--count 20000 --seed 2")
	$(RUN_BENCH) fuzz $(BENCH)

bench-fuzz-guided: $(VENV)/.develop ## the same, led by the coverage of the code, with atheris (BENCH="-runs=100000")
	$(PIP) --group fuzz
	$(RUN_BENCH) fuzz.guided $(BENCH)

bench-soak: $(VENV)/.develop ## ten minutes of mixed load and bad clients; memory must stay flat (BENCH="--minutes 1")
	$(RUN_BENCH) fuzz.soak $(BENCH)

bench-scale: $(VENV)/.develop ## simulate 10 to 10,000 replicas (BENCH="reality": the simulation against the server)
	@$(PIP) --group bench
	$(RUN_BENCH) scale $(BENCH)

fidelity: $(VENV)/.develop ## compare exported models with the originals' golden data (FIDELITY=--full: all of it)
	$(RUN_BENCH) models.fidelity $(FIDELITY)

# --- images ----------------------------------------------------------------------------------------------------------

IMAGES ?= cpu gpu
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

image: ## build the images with Docker (IMAGES=cpu: one; BASE=python:...@sha256:...: pinned)
	for target in $(IMAGES); do \
	  docker build --file deploy/Dockerfile --target $$target --tag stylewire:$(VERSION)-$$target \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(git log -1 --format=%cI) \
	    $(if $(BASE),--build-arg BASE=$(BASE)) . || exit 1; \
	done

image-offline: ## build them without Docker or an image registry, for the tests; needs root, buildah, debootstrap
	deploy/build-offline.sh $(IMAGES)

# --- deploy ----------------------------------------------------------------------------------------------------------

$(CHECKOV):
	$(PYTHON) -m venv build/checkov
	build/checkov/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1" && \
	build/checkov/bin/python -m pip install --quiet --disable-pip-version-check --group scan

manifests: $(VENV)/.develop ## write the manifests that are made from other files
	PYTHONPATH=deploy python -m check.rules

deploy-check: $(VENV)/.develop $(CHECKOV) ## render every overlay and component, validate and scan them, follow every reference
	PYTHONPATH=deploy python -m check

deploy-schemas: $(VENV)/.develop ## write the schemas of custom resources anew
	PYTHONPATH=deploy python -m check.vendor

# --- supply chain ----------------------------------------------------------------------------------------------------

SUPPLY := build/supply/bin
SBOM_EXTRAS ?= server,cpu

$(SUPPLY)/pip-audit:
	$(PYTHON) -m venv build/supply
	$(SUPPLY)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1" && \
	$(SUPPLY)/python -m pip install --quiet --disable-pip-version-check --group supply

audit: $(SUPPLY)/pip-audit ## look the pinned packages up in PyPI's database of vulnerabilities; needs pypi.org
	$(SUPPLY)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

sbom: $(SUPPLY)/pip-audit ## write build/sbom.json (CycloneDX) of what a server installs (SBOM_EXTRAS=server,gpu)
	rm -rf build/shipped
	$(PYTHON) -m venv --without-pip build/shipped
	$(SUPPLY)/python -m pip --python build/shipped/bin/python install --quiet --disable-pip-version-check --constraint constraints.txt '.[$(SBOM_EXTRAS)]'
	$(SUPPLY)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible --validate -o build/sbom.json build/shipped/bin/python
	@echo "build/sbom.json: $$(grep -c '"purl"' build/sbom.json) packages"

LOCK = $(SUPPLY)/uv pip compile --quiet --no-config --python-version 3.11 --python-platform linux --generate-hashes \
	--no-annotate --custom-compile-command 'make lock' --constraint constraints.txt $(LOCK_OPTIONS)

lock: $(SUPPLY)/pip-audit ## pin with hashes what the images install (LOCK_OPTIONS=--upgrade: the newest)
	$(LOCK) --group image --output-file deploy/lock/build.txt
	$(LOCK) --extra server --extra cpu --extra openvino --extra ncnn --extra triton --output-file deploy/lock/cpu.txt pyproject.toml
	$(LOCK) --extra server --extra gpu --output-file deploy/lock/gpu.txt pyproject.toml
	deploy/lock/update-cuda $(CURDIR)/$(SUPPLY)/python -m pip

clean: ## remove everything that make has made
	rm -rf $(VENV) out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
