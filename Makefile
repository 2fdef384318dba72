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

.PHONY: help demo test test-xen test-kvm fuzz proof proof-keeper proof-simulator proof-policies compiled lint format \
  bench wheel clean

help:
	@echo "make demo   place eight guests on a simulated two-socket host, and explain"
	@echo "make test   unit, property and conformance tests"
	@echo "make test-xen  tests on a real Xen, booted under qemu (fetches it; skips where it cannot)"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make test-kvm  tests on a real libvirt and QEMU, in a Linux booted under qemu"
	@echo "make fuzz   every parser, fed with what nobody would write; minutes (FUZZ_INPUTS=100000: an hour)"
	@echo "make proof  stock xl and libvirt beside homenode, on these: prints the tables of docs/proof.md"
	@echo "make proof-keeper  the keeper on these, and killed on these; an hour or two"
	@echo "make proof-simulator  the simulator beside published tables and a real Xen's traces"
	@echo "make proof-policies  policies on real arrivals; needs HOMENODE_DATA, takes ten minutes"
	@echo "make compiled  the compiled build of the simulators, in build/compiled (needs a C compiler)"
	@echo "make bench  measure the search, the command, and virtual nodes beside OpenStack Nova"
	@echo "            (fetches it, 400 MB; prints ratios, fails nothing)"
	@echo "make wheel  build the wheel into dist/"

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

test: $(READY)
	$(BIN)/python -m pytest -n auto

# An interrupted pytest stops its lab.
test-xen: $(READY)
	timeout --foreground --signal=INT --kill-after=60 33m $(BIN)/python -m pytest tests/xen -ra

test-kvm: $(READY)
	timeout --foreground --signal=INT --kill-after=60 25m $(BIN)/python -m pytest tests/kvm -ra

$(FUZZ_READY): $(READY)
	$(BIN)/python -m pip install --quiet --group fuzz
	@touch $@

fuzz: $(FUZZ_READY)
	$(BIN)/python -m fuzz.run --inputs $(FUZZ_INPUTS)

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

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) $(NOVA) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
