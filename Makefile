# Each target sets up what it needs. PYTHON names the interpreter (3.11 or newer) that makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Its lines show what is downloaded and installed.
PIP := @$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

.PHONY: run test test-all faults check docs plugin bench bench-epochs bench-growth clean

run: $(VENV)/installed
	cd src && ../$(BIN)/python main.py -m MambaRec -d demo --resume

# The tests share the processors: a process each. One that hangs ends the run with its stack.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal --timeout 900 --timeout-method thread

test: $(VENV)/installed-test
	$(PYTEST)

test-all: $(VENV)/installed-test
	$(PIP) -e '.[ray,browser,notebook]' -c constraints.txt
	@command -v chromium chromedriver >/dev/null \
	    || echo "The test in a real browser is skipped without Chromium: apt-get install chromium chromium-driver"
	$(BIN)/python -m pytest -m "slow or not slow" --hypothesis-profile default

faults: $(VENV)/installed-test
	FAULTS=whole $(BIN)/python -m pytest -m "slow or not slow" tests/faults

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

docs: $(VENV)/installed-docs
	$(BIN)/python docs/reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

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
	rm -rf $(VENV) site results data/demo .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.cfg constraints.txt | $(VENV)/bin/pip
	@echo "Installing MambaRec and the packages it needs into $(VENV). The first time, this downloads torch and takes some minutes."
	$(PIP) -e . -c constraints.txt
	@touch $@

$(VENV)/installed-test: setup.cfg constraints.txt | $(VENV)/bin/pip
	@echo "Installing MambaRec with the packages of the tests into $(VENV). The first time, this takes some minutes."
	$(PIP) -e '.[test,tracking,search,serving,prepare,report,features]' -c constraints.txt
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: setup.cfg constraints.txt | $(VENV)/bin/pip
	@echo "Installing the packages of the site into $(VENV)."
	$(PIP) -e '.[docs]' -c constraints.txt
	@touch $@ $(VENV)/installed
