# What people type. `make repro` goes from an empty machine to a trained model.

PYTHON ?= python3
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
INSTALLED := $(VENV)/.installed

.PHONY: setup repro test check test-gpu bench

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

repro: setup
	$(RUN) dvc repro

# Two processes of one thread each. A file's tests stay together and in order: some share a clone.
test: setup
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

# Without $(VENV) these two use the active Python: a machine with a GPU often brings its own torch.
test-gpu:
	$(RUN) python -m pytest -m gpu

bench:
	$(RUN) python -m benchmarks
