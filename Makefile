# `make demo` and `make test`: each makes a virtual environment if there is none, installs into it
# what pyproject.toml asks for (again only when that file changes), and goes on.

PYTHON ?= python3
VENV ?= .venv
# vLLM pins what it stands on, so it has an environment of its own.
VLLM_VENV ?= .venv-vllm
# Ray brings 60 packages, and takes minutes to start on a busy machine.
RAY_VENV ?= .venv-ray
# What pip installs for torch, and from where (empty: the index that pip is set up with).
TORCH ?= torch==2.13.0
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
EXTRAS_demo := train
EXTRAS_dev := train,serve,dev
EXTRAS_vllm := train,serve,serve-cpu,dev
EXTRAS_ray := train,serve,ray,dev

.PHONY: demo test test-vllm test-ray lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	$(BIN)/python -m llmrec.cli demo

# Two processes: most tests have one thread. A file's tests share what they train, so they stay together.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# On Linux: elsewhere there is no vLLM. It changes the process it runs in, so its tests run in their own.
test-vllm:
	@$(MAKE) VENV="$(VLLM_VENV)" run-test-vllm

.PHONY: run-test-vllm
run-test-vllm: $(VENV)/.installed-vllm
	$(BIN)/python -m pytest tests/test_vllm_*.py

# Ray forgets the processes that it started, which Python warns of.
test-ray:
	@$(MAKE) VENV="$(RAY_VENV)" run-test-ray

.PHONY: run-test-ray
run-test-ray: $(VENV)/.installed-ray
	$(BIN)/python -m pytest -W "ignore:subprocess:ResourceWarning" tests/test_ray.py

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	for venv in "$(VENV)" "$(VLLM_VENV)" "$(RAY_VENV)"; do \
		if [ -e "$$venv/pyvenv.cfg" ]; then rm -rf "$$venv"; fi; done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llmrec needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv "$(VENV)"

# torch goes first: left to itself, pip may choose a build of several GB for another machine.
# The packages taken out again match one torch build only and break transformers beside another.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing llmrec[$(EXTRAS_$*)] into $(VENV): minutes the first time"
	@$(PIP) install $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	@$(PIP) install -e ".[$(EXTRAS_$*)]"
	@$(PIP) uninstall -y torchvision torchaudio torchcodec
	@touch "$@"
