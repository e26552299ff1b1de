# make demo   profile this machine, search, export, and check the budgets
# make test   every check of the project
# make docs   the site, in build/site
#
# All need only Python 3.11 or newer with venv. Everything is installed into .venv, once;
# another interpreter is named with: make PYTHON=python3.12 demo

PYTHON ?= python3
BIN := .venv/bin
DEV := .venv/dev-installed

# The demo searches a space small enough for minutes on two cores.
SPACE   := --space gold --cells 5 --channels 8
INPUT   := --input 1x8x8 --classes 10
BUDGETS := --budget 600kFLOPs --budget 60kparams --budget 5ms
EPOCHS  := 20

# In a checkout, "import profiling" must not find our folder: see CONTRIBUTING.md.
export PYTHONSAFEPATH := 1

.PHONY: demo test pytest source docs dev
.DELETE_ON_ERROR:

demo: $(BIN)/goldnas
	@rm -rf demo
	$(BIN)/goldnas profile $(SPACE) $(INPUT) --out demo/cpu.json
	$(BIN)/goldnas search --data digits $(SPACE) $(BUDGETS) --epochs $(EPOCHS) \
	  --latency-lut demo/cpu.json --out demo/run
	$(BIN)/goldnas export demo/run --out demo/net.onnx --python-out demo/net.py

# Types take one core for a minute, and the tests wait for devices and processes now and then:
# so all is begun at once. The tests are two processes of one thread each. Each keeps to its half
# of the files, which share what is made once for a file, until it takes from the other.
test: dev
	$(MAKE) --jobs 3 source docs pytest

pytest: dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --durations 30

# Style and types.
source: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Strict: a link, an anchor or a docstring that leads nowhere is an error.
docs: export NO_MKDOCS_2_WARNING := 1
docs: dev
	$(BIN)/mkdocs build --quiet

dev: $(DEV)

# All at once, so that pip looks only once for versions that go together.
$(DEV): pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --editable . --group dev
	@touch $(BIN)/goldnas $@

# Editable, so that the demo and the tests run the code of this checkout as it is now.
$(BIN)/goldnas: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --editable .
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "goldnas needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"  # the first with --group
