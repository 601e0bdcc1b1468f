# Targets set up what they need. Python 3.10 is taken from PATH, pyenv or uv; PYTHON=... overrides.
# Nothing here uses the network except the installation of packages into .venv.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.spikegen-installed
# Tests run on every core, each worker on one; four at most, because a worker takes a gigabyte. ARGS="-n 0" runs them one by one.
PYTEST := -m pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: help setup demo test test-py311 lint format docs bench quality variants paper-size paper-energy soak clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with everything installed

$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then python="$$(.ci/python 3.10)"; "$$python" -m venv $(VENV); fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## export both digits models, sample 16 digits each (the U-Net on a Lava process), report operations and energy
	@mkdir -p demo
	$(BIN)/spikegen export digits-unet -o demo/digits.h5
	$(BIN)/spikegen sample demo/digits.h5 -n 16 --steps 20 --seed 0 --backend lava -o demo/digits.png --counts demo/counts.json
	$(BIN)/spikegen report demo/digits.h5 --counts demo/counts.json --json demo/report.json --samples demo/digits.png --html demo/report.html
	$(BIN)/spikegen export digits-vq -o demo/vq.h5
	$(BIN)/spikegen sample demo/vq.h5 -n 16 --seed 0 -o demo/vq.png
	$(BIN)/spikegen reconstruct demo/vq.h5 -n 16 -o demo/reconstructed.png
	@echo "Wrote pipelines, pictures, counts and a report to demo/; open demo/report.html"

test: $(STAMP) ## run the tests on all cores; ARGS="-k energy" passes arguments to pytest, ARGS="-n 0" runs them one by one
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(ARGS)

test-py311: ## run the tests that need no Lava with Python 3.11, current numpy and torch, in .venv-py311; ARGS="-k energy"
	@if [ ! -x .venv-py311/bin/python ]; then python="$$(.ci/python 3.11)"; "$$python" -m venv .venv-py311; fi
	.venv-py311/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-py311.txt \
		--editable '.[torch,report,onnx,nir,diffusers]' pytest pytest-xdist hypothesis
	OMP_NUM_THREADS=1 .venv-py311/bin/python $(PYTEST) $(ARGS)

lint: $(STAMP) ## formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## apply the formatter and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## build the documentation into docs/_build/html; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: $(STAMP) ## measure the speed of simulator and Lava against SLAYER and SpikingJelly (half an hour); ARGS="--quick"
	$(BIN)/python -m benchmarks.speed $(ARGS)

quality: $(STAMP) ## measure the samples: float model, integer Program, real data (minutes)
	$(BIN)/python benchmarks/quality.py

variants: $(STAMP) ## measure SDDPM, TSM, threshold guidance, FSDDIM, the ANN twin and the solvers (an hour)
	$(BIN)/python benchmarks/variants.py

paper-size: $(STAMP) ## export, verify, run and sample Spiking-Diffusion and SDDPM at the sizes of the papers (minutes)
	$(BIN)/python benchmarks/paper_size.py
	$(BIN)/python benchmarks/sddpm_size.py

paper-energy: $(STAMP) ## the energy table of SDDPM and SDM by their own formula, and what it leaves out
	$(BIN)/python benchmarks/paper_energy.py

soak: $(STAMP) ## 10,000 runs of the fused Lava network: no hang, no difference, no growth (minutes)
	$(BIN)/python benchmarks/soak.py

clean: ## remove what the other targets wrote, except .venv
	rm -rf demo dist build docs/_build docs/_generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
