# Every target makes .venv when it is missing or older than what it is made from.
#
#   PYTHON=python3.12 make setup     another interpreter (3.11 or later)
#   make setup TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"
#                                    another build of torch, such as one for CUDA
#   make setup TORCH=                the torch that the machine already has, whatever its version

SHELL  := bash
PYTHON ?= python3
TORCH  ?= torch==2.13.0
JOBS   ?= 2
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
DEMO   := runs/demo

.PHONY: setup demo test check bench faults mutants peers examples docs clean
.DELETE_ON_ERROR:

setup: .venv/installed

# torch comes first and alone, so that no other package chooses its build.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "undiffuse needs Python 3.11 or later; run make PYTHON=python3.11")'
	@echo "Installing into .venv"
	$(PYTHON) -m venv $(if $(TORCH),,--system-site-packages) .venv
	grep -v $(if $(TORCH),'^$$','^torch==') constraints.txt > .venv/constraints.txt
	$(if $(TORCH),$(PIP) install -c .venv/constraints.txt $(TORCH))
	$(PIP) install --quiet -c .venv/constraints.txt -e '.[test]'
	@touch $@

demo: setup
	rm -rf $(DEMO)
	$(BIN)/undiffuse train digits --recipe digits --out $(DEMO) --seed 0
	$(BIN)/undiffuse evaluate $(DEMO)
	$(BIN)/undiffuse sample $(DEMO) --num 100 --out $(DEMO)/samples.png
	$(BIN)/undiffuse report $(DEMO)

# One thread for each of the workers: more only get in each other's way.
test: export OMP_NUM_THREADS = 1
test: export OMP_WAIT_POLICY = PASSIVE
test: setup
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/guard.py

SLOW := benchmarks/faults.py benchmarks/mutants.py benchmarks/ablations.py
bench: setup
	@set -e; for script in $(filter-out $(SLOW),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

# Everything that may befall a run, many times over; the figures are in docs/results/reliability.md.
faults: setup
	$(BIN)/python benchmarks/faults.py

# Planted faults, each of which must be found by its test.
mutants: setup
	$(BIN)/python benchmarks/mutants.py

# The libraries that benchmarks/ compare with, in an environment of their own. The last five ask for
# torchvision, data sets and metrics too, which neither their samplers nor their networks need.
peers: .venv-peers/installed

PEERS := .venv-peers/bin/python -m pip --disable-pip-version-check install --quiet
.venv-peers/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	$(PEERS) -c constraints.txt torch==2.13.0
	$(PEERS) -c constraints.txt -e '.[ode,plot]' diffusers==0.42.1 accelerate==1.15.0 einops torchsde tqdm
	$(PEERS) --no-deps k-diffusion==0.1.1.post1 azula==0.11.1 smalldiffusion==0.5.0 denoising-diffusion-pytorch==2.3.4 ema-pytorch==0.8.3
	.venv-peers/bin/python .ci/guard.py
	@touch $@

# Draws the pictures of the gallery.
examples: setup
	@set -e; for script in examples/[a-z]*.py; do $(BIN)/python $$script; done

docs: .venv/docs
	$(BIN)/sphinx-build --fail-on-warning --quiet -b html docs build/docs
	@echo "The pages are in build/docs/index.html"

.venv/docs: .venv/installed
	$(PIP) install --quiet -c .venv/constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
