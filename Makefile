# Two commands do all the set-up: `make demo` and `make test`. Everything lives in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export PYTHONUNBUFFERED := 1

.PHONY: help demo test test-all lint types docs bench clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# One stamp per set of extras: it is made again when the project's metadata or the pinned versions change.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("polyfed needs Python 3.11 or newer; give one: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) --editable ".[report,play]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) --editable ".[report,play,export,box2d,tensorboard,privacy,secure,flower,mujoco,test]"
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(PIP_INSTALL) --editable ".[lint]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	$(PIP_INSTALL) --editable ".[docs]"
	@touch $@

.venv-bench/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	@touch $@

demo: $(VENV)/.installed-demo ## train a fleet of cart-poles that differ and write a report
	$(BIN)/polyfed run cartpole-poles

# Tests compile much and run little, so that XLA's quick ways take half the time; what is said of bits is said of its best.
# The tests of a file stay in one process, which compiles what they share once.
QUICK := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

test: $(VENV)/.installed-test ## the tests, without the slow ones
	$(QUICK) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not bits" tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "bits and not slow" $$(grep -rl mark.bits --include="*.py" tests)
	$(QUICK) $(BIN)/python -m pytest -n 2 --doctest-modules --doctest-ignore-import-errors polyfed

test-all: $(VENV)/.installed-test ## every test
	$(BIN)/python -m pytest -n 2 tests
	$(BIN)/python -m pytest -n 2 --doctest-modules --doctest-ignore-import-errors polyfed

lint: $(VENV)/.installed-lint ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-lint ## static types
	$(BIN)/mypy

docs: $(VENV)/.installed-docs ## the pages, their examples, and the tutorial as a user would type it
	$(BIN)/sphinx-build -q -W -b html -d docs/_build/doctrees docs docs/_build/html
	$(QUICK) $(BIN)/sphinx-build -q -W -b doctest -d docs/_build/doctrees docs docs/_build/doctest & examples=$$!; \
		$(BIN)/python docs/run_tutorial.py && wait $$examples

bench: $(VENV)/.installed-demo .venv-bench/.installed ## speed against other libraries, as JSON
	$(PYTHON) benchmarks/engine_speed.py --repeats 5 --limit

clean: ## remove the environments and what was built
	rm -rf $(VENV) .venv-bench docs/_build dist
