# Two commands do all on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint bench wheel clean

# The stamp holds the virtual environment that constraints.txt and pyproject.toml ask for.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,efficientnet,hf,tune]'
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/pipeline demo --out demo

test: install
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Needs ffmpeg; takes about half an hour, and an idle machine to mean anything.
bench: install
	$(BIN)/python -m pip install --quiet opencv-python-headless
	$(BIN)/python benchmarks/speed.py bench --compile

wheel: install
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist demo bench *.egg-info
