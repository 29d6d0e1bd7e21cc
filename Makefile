# The project's commands. Each sets up what it needs and does only what is missing.

PYTHON ?= python3
VENV   := .venv/bin

.PHONY: help demo test lint engine devices bench-kernels clean

help:
	@echo "make demo    set up, build, convert tiny-plm to q4_k, run a prompt"
	@echo "make test    set up what is missing, run all tests"
	@echo "make lint    ruff and mypy"
	@echo "make engine  build the engine only"
	@echo "make devices set up what builds engines for other devices"
	@echo "make bench-kernels  ours against stock llama.cpp, 20 minutes (BENCH_ARGS=--quick: a trial)"

.bootstrap:
	@command -v $(PYTHON) >/dev/null || { printf 'error: there is no $(PYTHON)\n  why: not found on PATH\n  fix: install Python 3.10 or newer, or say PYTHON=/path/to/python3\n' >&2; exit 4; }
.PHONY: .bootstrap

engine: .bootstrap
	@$(PYTHON) bootstrap.py

devices: .bootstrap
	@$(PYTHON) bootstrap.py --devices

demo: engine
	@$(VENV)/plm-edge convert examples/tiny-plm/checkpoint --quant q4_k --out build/tiny-plm-q4_k.gguf
	@$(VENV)/plm-edge run build/tiny-plm-q4_k.gguf --prompt 'def fibonacci(n):' -n 80 --temp 0 --stats

test: .bootstrap
	@$(PYTHON) bootstrap.py --tests
	@$(VENV)/python vendor/llama.cpp/sync.py check
	@$(VENV)/python -m pytest $(PYTEST_ARGS)

bench-kernels: .bootstrap
	@$(PYTHON) bootstrap.py --bench
	@$(VENV)/python benchmarks/kernels.py $(BENCH_ARGS)

lint: .bootstrap
	@$(PYTHON) bootstrap.py --tests
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

clean:
	rm -rf build dist plm_edge/bin plm_edge/bindings plm_edge/lib plm_edge/data
