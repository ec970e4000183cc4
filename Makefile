# `make demo` and `make test` need Python 3.11 or newer and nothing else; both install into .venv first.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
DEMO ?= demo
AVEM = $(VENV)/bin/avem

.PHONY: demo test check platforms install clean

# The install is done again when pyproject.toml changes. A torch that is there already is kept.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -c "import torch" 2>/dev/null || $(VENV)/bin/pip install --quiet "$(TORCH)"
	$(VENV)/bin/pip install --quiet --editable ".[dev]"
	touch $@

install: $(VENV)/installed

demo: install
	$(AVEM) demo --out $(DEMO)

test: install
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	rm -rf $(VENV)/types
	$(VENV)/bin/pip install --quiet --no-deps --target $(VENV)/types .
	MYPYPATH=$(VENV)/types $(VENV)/bin/mypy --python-executable $(VENV)/bin/python -p avem

platforms: install
	.ci/platforms

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
