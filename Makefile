# The project's commands. Each sets up what it needs and does only what is missing.

PYTHON ?= python3
VENV   := .venv/bin
# a process for each core; tests that share an engine stay in one of them
PYTEST  = $(VENV)/python -m pytest -n auto --dist loadgroup

.PHONY: help demo engine devices test test-fast test-all lint fix hooks bench-kernels bench-peers gpu-check clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | awk -F '\t' '{printf "make %-14s %s\n", $$1, $$2}'

.bootstrap:
	@command -v $(PYTHON) >/dev/null || { printf 'error: there is no $(PYTHON)\n  why: not found on PATH\n  fix: install Python 3.10 or newer, or say PYTHON=/path/to/python3\n' >&2; exit 4; }
.PHONY: .bootstrap

demo: engine ## set up, build, convert tiny-plm to q4_k, run a prompt
	@$(VENV)/plm-edge convert examples/tiny-plm/checkpoint --quant q4_k --out build/tiny-plm-q4_k.gguf
	@$(VENV)/plm-edge run build/tiny-plm-q4_k.gguf --prompt - -n 13 --temp 0 --stats < examples/tiny-plm/showcase.txt
	@echo "tiny-plm has 6 million weights and was trained on Python's standard library: it completes short Python."
	@echo "A PLM-1.8B checkpoint goes the same way: plm-edge convert FOLDER, then plm-edge run --prompt TEXT"

engine: .bootstrap ## build the engine alone
	@$(PYTHON) bootstrap.py

devices: .bootstrap ## set up what builds engines for other devices
	@$(PYTHON) bootstrap.py --devices

.tools: .bootstrap
	@$(PYTHON) bootstrap.py --tests
.linters: .bootstrap
	@$(PYTHON) bootstrap.py --lint
.PHONY: .tools .linters

test-fast: .tools lint ## lint, unit tests and one parity case: two minutes, while you edit
	@$(PYTEST) -q --tier fast $(PYTEST_ARGS)

test: .tools ## the tests for a change: ten minutes on two cores (PYTEST_ARGS: more for pytest)
	@$(VENV)/python vendor/llama.cpp/sync.py check
	@$(PYTEST) --tier usual $(PYTEST_ARGS)

test-all: .tools ## all tests: engines for other devices, phones and GPUs, every parity case
	@$(VENV)/python vendor/llama.cpp/sync.py check
	@$(PYTEST) --tier all $(PYTEST_ARGS)

lint: .linters ## style, types, and which room imports which
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/python tools/format_cpp.py --check
	@$(VENV)/mypy
	@$(VENV)/lint-imports

fix: .linters ## mend what tools can mend: style and layout
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .
	@$(VENV)/python tools/format_cpp.py

hooks: .linters ## make git check what `make lint` checks, before each commit
	@$(VENV)/pre-commit install

bench-kernels: .bootstrap ## ours against stock llama.cpp, 20 minutes (BENCH_ARGS=--quick: a trial)
	@$(PYTHON) bootstrap.py --bench
	@$(VENV)/python -m benchmarks.kernels $(BENCH_ARGS)

bench-peers: .bootstrap ## PLM-1.8B beside models of its size in stock llama.cpp, 25 minutes (BENCH_ARGS=--quick: a trial)
	@$(PYTHON) bootstrap.py --bench
	@$(VENV)/python -m benchmarks.peers $(BENCH_ARGS)

gpu-check: .bootstrap ## an NVIDIA GPU against the CPU, 8 minutes (GPU_ARGS: --device PROFILE and --prepare, or --edge FILE --stock FILE)
	@$(VENV)/python -m benchmarks.gpu_check $(GPU_ARGS)

clean: ## remove what was built
	rm -rf build dist plm_edge/bin plm_edge/bindings plm_edge/lib plm_edge/data
