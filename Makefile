# Everything a developer needs; `make help` lists it.

# PYTHON names the interpreter; by default a whole .venv stays, or python3 makes it.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PURELIB = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# protoc finds its mypy plugins on the PATH.
PROTOC = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos
GENERATE = $(PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) \
	protos/authsvc/v1/*.proto protos/authsvc/internal/v1/*.proto && \
	$(PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) protos/authsvc/v1/auth.proto
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all-pythons check protos contract reference lock image release conformance bench bench-setup \
	bench-check chaos drill fuzz clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(READY) ## Make the virtual environment in .venv (the other targets do it by themselves).

# It looks at what is there, not at times: half of an environment is never taken for a whole one.
$(READY): FORCE
	@PYTHON="$(PYTHON)" sh scripts/setup.sh $(VENV)

FORCE:

run: $(READY) ## Run it all: authsvc, the adapter and a local S3. Ctrl-C ends it.
	@$(BIN)/python -m demo

test: $(READY) ## Run the tests; without TESTS all of them, with their coverage.
	@sh scripts/clients.sh $(VENV)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
		$(or $(TESTS),--cov --cov-report=)

test-all-pythons: $(READY) ## Run the tests on each Python that the machine has, 3.11 to 3.14.
	@$(BIN)/python -m scripts.pythons $(TESTS)

check: $(READY) ## Lint, types, layers, fresh stubs, the proto's contract, coverage of the last `make test`.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/python -m pytest -qq tests/test_layering.py && echo "The layers hold."
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(call GENERATE,"$$fresh") && \
	for folder in authsvc/v1 authsvc/internal/v1; do \
		diff -r -x __init__.py -x __pycache__ "$$fresh/$$folder" $$folder || exit 1; \
	done && \
	echo "The stubs are fresh."
	@$(BIN)/python -m scripts.contract
	@sh scripts/coverage.sh $(BIN)

protos: $(READY) ## Generate authsvc/v1 and authsvc/internal/v1 from protos/; refresh protos/google.
	@# The archive of a release has what auth.proto imports, and what the details of errors are.
	cp $(addprefix $(PURELIB)/google/rpc/,error_details.proto status.proto) protos/google/rpc
	cp $(addprefix $(PURELIB)/grpc_tools/_proto/google/protobuf/,any.proto duration.proto empty.proto timestamp.proto) \
		protos/google/protobuf
	$(call GENERATE,.)

contract: $(READY) ## Accept the proto as it is: write protos/contract.json, which `make check` compares with.
	@$(BIN)/python -m scripts.contract --accept

reference: $(READY) ## Make docs/reference from the code and the proto, and the chart's table of values.
	$(BIN)/python -m scripts.reference

lock: $(READY) ## Pin the newest dependencies, with hashes, in requirements.lock.
	$(BIN)/uv pip compile pyproject.toml --extra server --extra adapter --extra console --extra middleware \
		--group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --upgrade --quiet --output-file requirements.lock
	@# What the container installs, and builds with: parts of it.
	$(BIN)/uv pip compile pyproject.toml --extra server --extra adapter --extra console \
		--constraint requirements.lock --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file deploy/requirements.lock
	echo hatchling | $(BIN)/uv pip compile - --constraint requirements.lock \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --quiet --output-file deploy/build.lock

IMAGE ?= authsvc:dev
image: ## Build the container image IMAGE (authsvc:dev), with docker, podman or Debian's buildah.
	@sh scripts/image.sh $(IMAGE)

release: $(READY) ## Check that the tree can be released (TAG=v0.1.0), and build dist/.
	@$(BIN)/python -m scripts.release --tag "$(TAG)"

conformance: $(READY) ## Run MCP's conformance suite, and compare with what is expected.
	$(BIN)/python -m conformance

chaos: $(READY) ## Inject faults into three replicas under load; figures in var/chaos.
	$(BIN)/python -m chaos

drill: $(READY) ## Practise the runbooks under load: all, or DRILLS="ca-rotation ..."; logs in var/drill.
	$(BIN)/python -m drills $(DRILLS)

bench-setup: $(READY) ## Install what the benchmarks need besides.
	@# Not in requirements.lock: nothing else needs them.
	@$(BIN)/python -m scripts.install bench/requirements.lock bench/peers/requirements.lock

bench: bench-setup ## Measure everything under load; the report goes to var/bench/report.html.
	@# A missed goal ends neither of the two, and fails both.
	$(BIN)/python -m bench; status=$$?; $(BIN)/python -m bench.tools && exit $$status

bench-check: $(READY) ## Have ratios of costs become worse than recorded? In about a minute.
	$(BIN)/python -m bench.check

FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))
fuzz: $(READY) ## Fuzz each target for FUZZ_SECONDS (60); findings and corpus in var/fuzz.
	@# Not in requirements.lock: it is built for few machines, and nothing else needs it.
	@$(BIN)/python -m scripts.install fuzz/requirements.lock
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p var/fuzz/corpus/$$target; \
		$(BIN)/python -m fuzz $$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 \
			-artifact_prefix=var/fuzz/$$target- var/fuzz/corpus/$$target fuzz/corpus/$$target; \
	done

clean: ## Remove what the targets made, the virtual environment and the demo's files among it.
	@# The markers first: half of an environment is never taken for a whole one.
	rm -f $(VENV)/.ready .venv-3.*/.ready conformance/node_modules/.installed protos/node_modules/.installed tests/clients/node_modules/.installed tests/deploy/tools/node_modules/.installed
	rm -rf $(VENV) .venv-3.* conformance/node_modules protos/node_modules tests/clients/node_modules tests/deploy/tools/node_modules var dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
