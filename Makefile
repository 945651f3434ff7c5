# The two commands of the README, and what the developers of embedpipe need besides.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install quickstart test test-faults check format soak bench scale figures constraints clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## everything into .venv, exactly the versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "embedpipe needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with `make PYTHON=python3.12 …`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(INSTALLED)  ## embed docstrings of this Python with a real model, then ask a question
	$(BIN)/embedpipe sample --rows 3000 quickstart/input
	$(BIN)/embedpipe run --config configs/quickstart.yaml
	$(BIN)/python jobs/nearest.py quickstart/out "compute the hash of a file"

# Some environments forbid it; compiling anew what it loads takes each of the tests' hundreds of processes most of a second.
unexport PYTHONDONTWRITEBYTECODE

# Three processes side by side, as much of it is waiting; the tests of a file stay together, since some share a Ray.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 30

test: $(INSTALLED)  ## the tests, about ten minutes on two cores
	$(PYTEST)

test-faults: $(INSTALLED)  ## what goes wrong on purpose: crashes, lies, bad input; about nine minutes on two cores
	$(PYTEST) -m faults tests/faults

check: $(INSTALLED)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(INSTALLED)  ## the same for hours; goes on where it was stopped, counts in docs/reliability.json
	PYTHONPATH=tests:. $(BIN)/python -m faults.soak $(if $(HOURS),--hours $(HOURS)) $(if $(ONLY),--only $(ONLY))

bench: $(INSTALLED)  ## measure speed against others, with parity; what docs/benchmarks.md shows
	$(BIN)/python -m jobs.bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

scale: $(INSTALLED)  ## measure what a job costs around the model, to ten million rows; what docs/scale.md shows
	$(BIN)/python -m jobs.scale $(if $(ONLY),--only $(ONLY))

figures: $(INSTALLED)  ## measure what docs/figures.md shows; STSB=<tsv of the STS benchmark> adds its score
	$(BIN)/python -m jobs.figures $(if $(STSB),--stsb $(STSB))

constraints: $(INSTALLED)  ## pin the newest versions that fit together
	$(BIN)/python jobs/pin.py

clean:  ## what quickstart has written; the environment stays
	rm -rf quickstart
