# What people type. `make repro` goes from an empty machine to a trained model.

PYTHON ?= python3
VENV := .venv
PYTHONS := import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "error: \
expected Python 3.11 to 3.13, found %d.%d; type, for example, make repro PYTHON=python3.12" % v)
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
INSTALLED := $(VENV)/.installed

.PHONY: setup repro test check test-gpu bench

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c '$(PYTHONS)'
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
