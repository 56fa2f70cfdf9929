# make demo     fit a VAE on the embedded digits, evaluate it, and write samples, plots and a report
# make test     the whole test suite
# make check    ruff and mypy
# make docs     the documentation, in site/
# make clean    remove caches and built documentation; .venv and runs stay
#
# Each creates .venv where need be. Another Python: make demo PYTHON=/path/to/python3.12

PYTHON  ?= python3
WORKERS ?= 2
BIN     := .venv/bin
RUN     := runs/digits

# One thread a process: the same bits on every machine, and test workers that do not fight for cores.
export OMP_NUM_THREADS := 1

.PHONY: demo test check docs clean

demo: .venv/installed
	$(BIN)/latentia fit digits --model vae --conv --latent 6 --lr 2e-3 --schedule cosine --steps 1500 --out $(RUN) --overwrite
	$(BIN)/latentia evaluate $(RUN)
	$(BIN)/latentia sample $(RUN) -n 64 --out $(RUN)/samples.png
	$(BIN)/latentia plot $(RUN)
	@printf '\n%s\n' "What was made:"
	@printf '  %-9s %s\n' report $(RUN)/report.html samples $(RUN)/samples.png plots $(RUN)/plots model $(RUN)/model

test: .venv/installed
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal --durations 10

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html"

clean:
	rm -rf site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Name a Python 3.11 or later: make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Latentia needs Python 3.11 or later, and $(PYTHON) is %d.%d. Name another: make PYTHON=/path/to/python3.12" % sys.version_info[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing Latentia and its pinned dependencies into .venv; torch is large, so the first time takes minutes."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@
