# make run: install and discover.  make test: every test.  PROBLEM, ARGS and PYTHON may be given.
PROBLEM ?= erdos
ARGS ?=
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
TORCH := 2.13.0
WORKERS ?= 3
FAST := not slow and not services and not policy and not gpu
FOLDERS := verifiers models tasks flows migrations

.PHONY: venv run learn test check lint types fast torture fuzz soak bench clean install install-dev
run: install
	$(BIN)/eureka run $(PROBLEM) $(ARGS)

learn: install
	$(BIN)/eureka run $(PROBLEM) --steps 15 $(ARGS)

# More files at a time than two cores, as much of it is waiting.
test: install-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint
	@$(MAKE) --no-print-directory -j2 -O types fast

lint: install-dev
	$(BIN)/ruff check $(FOLDERS) tests
	$(BIN)/ruff format --check $(FOLDERS) tests

# Side by side, because the first type check of a clone takes as long as the tests.
types:
	$(BIN)/mypy $(FOLDERS)
fast:
	$(BIN)/python -m pytest -q -m '$(FAST)'

torture: install-dev
	$(BIN)/python -m tests.run_torture $(ARGS)

# Each is run, also after one that missed its target; what needs a GPU says so in a line.
bench: install
	@failed=; for script in tests/benchmarks/*.py; do \
	name=$$(basename $$script .py); echo "== $$name"; \
	$(BIN)/python -m tests.benchmarks.$$name || failed="$$failed $$name"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

fuzz: install-dev
	$(BIN)/python -m tests.fuzz 100000
	$(BIN)/python -m tests.fuzz_cells 100000
	$(BIN)/python -m tests.fuzz_contests 100000

soak: install-dev
	$(BIN)/python -m tests.soak $(ARGS)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp holds the hash of what was installed from: the second time costs nothing and no network.
# Without a GPU the CPU build of torch is wanted, smaller by gigabytes; not every index serves it.
install: STAMP := $(VENV)/.installed
install: venv
	@want=$$(cat pyproject.toml constraints.txt | sha256sum); \
	if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$want" ]; then \
	echo "installing into $(VENV): once, some minutes"; \
	if [ -e /dev/nvidia0 ] || [ -e /proc/driver/nvidia/version ] \
	|| ! $(PIP) install -q -c constraints.txt torch==$(TORCH)+cpu 2>/dev/null; \
	then $(PIP) install -q -c constraints.txt torch==$(TORCH) || exit 1; fi; \
	$(PIP) install -q -c constraints.txt -e . && echo "$$want" > $(STAMP); fi

install-dev: STAMP := $(VENV)/.installed-dev
install-dev: install
	@want=$$(cat pyproject.toml constraints.txt | sha256sum); \
	if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$want" ]; then \
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' \
	> $(VENV)/dev.txt && $(PIP) install -q -c constraints.txt -r $(VENV)/dev.txt \
	&& echo "$$want" > $(STAMP); fi

# An environment that cannot run pip is half made (no ensurepip, an interrupt) and made again.
venv:
	@if $(PIP) --version >/dev/null 2>&1; then exit 0; fi; python='$(PYTHON)'; \
	[ -n "$$python" ] || { echo "Python 3.11, 3.12 or 3.13 is needed and was not found;" \
	"install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	$$python -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) \
	else f"Python {v[0]}.{v[1]} is not supported; use 3.11, 3.12 or 3.13: make PYTHON=python3.11")' \
	|| exit 1; \
	$$python -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "$$python has no ensurepip, so it cannot make an environment; on Debian and Ubuntu:" \
	"apt-get install $$($$python -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" \
	>&2; exit 1; }; \
	rm -rf $(VENV) && $$python -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
