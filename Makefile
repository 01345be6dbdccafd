# Each target sets up what it needs. PYTHON names the interpreter (3.11 or newer) that makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-all faults check plugin bench bench-epochs bench-growth clean

run: $(VENV)/installed
	cd src && ../$(BIN)/python main.py -m MambaRec -d demo --resume

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

test-all: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[ray,browser]' -c constraints.txt
	@command -v chromium chromedriver >/dev/null \
	    || echo "The test in a real browser is skipped without Chromium: apt-get install chromium chromium-driver"
	$(BIN)/python -m pytest -m "slow or not slow"

faults: $(VENV)/installed-test
	FAULTS=whole $(BIN)/python -m pytest tests/faults

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

plugin: $(VENV)/installed
	@test -n "$(MMREC)" || { echo "name the MMRec checkout: make plugin MMREC=/path/to/MMRec"; exit 2; }
	@$(BIN)/python src/export_plugin.py "$(MMREC)" $(if $(FORCE),--force)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.bench $(BENCH)

bench-epochs: $(VENV)/installed
	$(BIN)/python -m benchmarks.epochs $(BENCH)

bench-growth: $(VENV)/installed
	$(BIN)/python -m benchmarks.growth $(BENCH)

clean:
	rm -rf $(VENV) results data/demo .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.cfg constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	@touch $@

$(VENV)/installed-test: setup.cfg constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,tracking,search,serving,prepare,report,features]' -c constraints.txt
	@touch $@ $(VENV)/installed
