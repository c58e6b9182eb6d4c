# make demo and make test do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: install demo test lint docs examples clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bridle needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs,benchmarks]'
	touch $(STAMP)

# One thread a process: demo leaves the second core of a machine with two to others, test has a process for each, and
# both repeat to the bit.
demo: export OMP_NUM_THREADS := 1
demo: $(STAMP)
	$(BIN)/bridle train --data Digits --model ConvVAE --constraints.re 0.1 --steps 3000 --seed 0 --out demo/geco --overwrite
	$(BIN)/bridle train --data Digits --model ConvVAE --objective elbo --steps 3000 --seed 0 --out demo/elbo --overwrite
	$(BIN)/bridle report demo/geco demo/elbo --out demo/report.html

test: export OMP_NUM_THREADS := 1
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

# The shell examples of the documentation, as written: about five minutes.
examples: export OMP_NUM_THREADS := 1
examples: $(STAMP)
	$(BIN)/python docs/examples.py

clean:
	rm -rf $(VENV) demo docs/_build
