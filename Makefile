# Every target does its own set-up: Python 3.11 or newer and make are all that a machine needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
FUZZ_READY := $(VENV)/.fuzz-ready
FUZZ_INPUTS ?= 10000
NOVA := .venv-nova
NOVA_VERSION := 34.0.0
NOVA_READY := $(NOVA)/.ready-$(NOVA_VERSION)

.PHONY: help demo test test-xen test-kvm test-deb test-pythons lint format docs man pictures fuzz mutation soak audit \
  compiled bench proof proof-keeper proof-simulator proof-policies wheel sdist pyz deb clean

help:
	@echo "make demo   place eight guests on a simulated two-socket host, and explain"
	@echo "make test   unit, property and conformance tests"
	@echo "make test-xen  tests on a real Xen, booted under qemu (fetches it; skips where it cannot)"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make test-kvm  tests on a real libvirt and QEMU, in a Linux booted under qemu"
	@echo "make test-pythons  the tests on each Python from 3.11 to 3.14 that is found; prints a table"
	@echo "make soak   processes on a simulated host, killed at random for a minute, and watched"
	@echo "make audit  what is installed: known to be vulnerable, consistent, declared, used?"
	@echo "make fuzz   every parser, fed with what nobody would write; minutes (FUZZ_INPUTS=100000: an hour)"
	@echo "make proof  stock xl and libvirt beside homenode, on these: prints the tables of docs/proof.md"
	@echo "make proof-keeper  the keeper on these, and killed on these; an hour or two"
	@echo "make proof-simulator  the simulator beside published tables and a real Xen's traces"
	@echo "make proof-policies  policies on real arrivals; needs HOMENODE_DATA, takes ten minutes"
	@echo "make mutation  small defects put into the decision: how many do the tests find; hours"
	@echo "make compiled  the compiled build of the simulators, in build/compiled (needs a C compiler)"
	@echo "make bench  measure the search, the command, and virtual nodes beside OpenStack Nova"
	@echo "            (fetches it, 400 MB; prints ratios, fails nothing)"
	@echo "make docs   the book, in build/docs: its commands are run, and warnings are errors"
	@echo "make pictures  draw the pictures of the book anew"
	@echo "make man    the manual pages, in build/man"
	@echo "make wheel  build the wheel into dist/ (HOMENODE_COMPILED=1: the compiled one, of this platform)"
	@echo "make sdist  build the source distribution into dist/"
	@echo "make pyz    build homenode.pyz into dist/: one file, which needs Python and nothing else"
	@echo "            (PYTHONS='python3.11 python3.13': starts as fast with all of these)"
	@echo "make deb    build the Debian package into dist/ (needs dpkg-deb)"
	@echo "make test-deb  install, use and remove it in a clean Debian 12 (fetches it; needs root)"

$(RUNS): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo "homenode needs Python 3.11 to 3.14: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(READY): $(RUNS)
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

demo: $(RUNS)
	@PATH="$(abspath $(BIN)):$$PATH" sh examples/demo.sh

# One more than there are cpus, for tests wait as well.
test: $(READY)
	$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist worksteal

# An interrupted pytest stops its lab.
test-xen: $(READY)
	timeout --foreground --signal=INT --kill-after=60 40m $(BIN)/python -m pytest tests/xen -ra

test-kvm: $(READY)
	timeout --foreground --signal=INT --kill-after=60 43m $(BIN)/python -m pytest tests/kvm -ra

$(FUZZ_READY): $(READY)
	$(BIN)/python -m pip install --quiet --group fuzz
	@touch $@

fuzz: $(FUZZ_READY)
	$(BIN)/python -m fuzz.run --inputs $(FUZZ_INPUTS)
# One after the other, each in an environment of its own.
test-pythons: $(READY)
	$(BIN)/python -m proof.pythons

soak: $(READY)
	$(BIN)/python -m proof.soak

audit: $(READY)
	$(BIN)/python -m pip install --quiet --group audit
	$(BIN)/python -m proof.audit

# The keeper on real hypervisors, killed, and its numbers; Xen in exact time takes an hour or two.
proof-keeper: $(READY)
	$(BIN)/python -m proof.keeper_numbers
	$(BIN)/python -m proof.keeper_kills
	$(BIN)/python -m proof.keeper_table

proof-simulator: $(READY)
	$(BIN)/python -m proof.published
	$(BIN)/python -m proof.schedules_simulated

proof-policies: $(READY)
	$(BIN)/python -m proof.recorded
	$(BIN)/python -m proof.policies
	$(BIN)/python -m proof.predicted --hosts 16

# Begins anew where nothing is kept in build/mutation; else only what has changed is tried.
mutation: $(READY)
	$(BIN)/python -m proof.mutation --survivors

# Beside the source, which stays as it is: what is compiled would be taken in its place.
compiled: $(READY)
	rm -rf build/compiled && mkdir -p build/compiled
	cp -r src setup.py pyproject.toml README.md LICENSE packaging build/compiled/
	rm -rf build/compiled/src/*.egg-info
	cd build/compiled && HOMENODE_COMPILED=1 $(abspath $(BIN))/python setup.py -q build_ext --inplace

proof: $(READY)
	$(BIN)/python -m proof.table
	$(BIN)/python -m proof.kvm_table
	$(BIN)/python -m proof.numad_states

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Where Nova cannot be installed, the bench says so and measures homenode alone.
$(NOVA_READY):
	@mkdir -p $(NOVA)
	@{ $(PYTHON) -m venv $(NOVA) && \
	  $(NOVA)/bin/python -m pip install --quiet nova==$(NOVA_VERSION) && touch $@; \
	} >$(NOVA)/install.log 2>&1 || true

bench: $(READY) $(NOVA_READY)
	$(BIN)/python bench/search.py
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/fleet.py
	$(BIN)/python bench/keeper.py
	-$(BIN)/python bench/keeper_here.py
	-$(MAKE) compiled && $(BIN)/python bench/simulator.py --compiled build/compiled/src
	$(BIN)/python bench/virtual.py --nova $(NOVA)/bin/python

# Every command that is shown is run, and its output compared; any warning of Sphinx fails it.
docs: $(READY)
	$(BIN)/python -m pytest -n auto -q tests/pages
	$(BIN)/python -m sphinx -q -j 2 -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

# Those that would come out the same stay as they are.
pictures: $(READY)
	$(BIN)/python -m proof.pictures

man: $(READY)
	$(BIN)/python -m sphinx -q -W --keep-going -t manual -b man docs build/man

# Made of the source distribution, apart from this tree: what an earlier build left is in neither.
wheel: sdist
	$(BIN)/python -m pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist \
	  "$$(ls -t dist/homenode-*.tar.gz | head -n 1)"

sdist: $(READY)
	HOMENODE_COMPILED= $(BIN)/python -m build --no-isolation --sdist --outdir dist .

# Byte code of these Pythons is in it; others compile at every start.
PYTHONS ?= $(BIN)/python
pyz: $(READY)
	$(BIN)/python packaging/pyz.py dist/homenode.pyz $(PYTHONS)

deb: $(READY) man
	$(BIN)/python packaging/deb.py dist

# Fetches Debian's packages through apt once, and keeps them.
test-deb: $(READY) man
	timeout --foreground --signal=INT --kill-after=60 9m $(BIN)/python -m pytest tests/deb -ra

clean:
	rm -rf $(VENV) $(NOVA) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
