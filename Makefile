# Two commands for a new user: `make demo` and `make test`. Each does all set-up itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs clean

$(STAMP): setup.cfg pyproject.toml constraints-cpu.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "DeepPrep needs Python 3.11 or later, this is %s" % sys.version.split()[0]'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and alone: the CPU build, where the index offers one.
	$(BIN)/python -m pip install --quiet --constraint constraints-cpu.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints-cpu.txt --editable '.[test,lint]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/deepprep phantom $(DEMO)/bids
	$(BIN)/deepprep $(DEMO)/bids $(DEMO)/derivatives participant --work-dir $(DEMO)/work \
	    --output-spaces MNI152NLin2009cAsym:res-2 T1w
	$(BIN)/deepprep phantom-score $(DEMO)/bids $(DEMO)/derivatives
	@echo "Report: $(CURDIR)/$(DEMO)/derivatives/sub-01.html"

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy deepprep
	$(BIN)/codespell deepprep tests docs training benchmarks README.md CHANGES.md CONTRIBUTING.md

clean:
	rm -rf $(DEMO) .pytest_cache .ruff_cache .mypy_cache
