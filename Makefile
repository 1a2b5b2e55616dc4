# Needs Python 3.11 or newer, make and git. Everything else is installed into .venv from uv.lock.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .uv/bin/uv
BIN := .venv/bin
# One test process more than there are processors, because some tests wait for a browser or a server.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')
# The first start is then as quick as the next.
COMPILE ?= --compile-bytecode
DEMO ?= --preset fast --envpool --eval-episodes 20 --stop-at-return 220

TEST_TOOLS := pytest pytest-randomly pytest-xdist hypothesis httpx jsonschema axe-playwright-python
LOWEST := $(addprefix tests/test_,$(addsuffix .py,network config logs envs weights plots tensorboard statistics pool \
	watch_api watch_server video overlay report progress doctor_mcp run_directory seeding))

# Published figures and agents come from NumPy alone.
demo benchmarks pretrained: export PERILUNE_BACKEND ?= numpy

.PHONY: setup demo docs test test-lowest test-long lint torture benchmarks pretrained clean

setup: .venv/ready

.venv/ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Perilune needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@test -x $(UV) || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet uv==$(UV_VERSION); } || \
		{ rm -rf .uv; echo "Setup failed: it needs Python's venv module and access to the package index."; exit 1; }
	@echo "Installing into .venv."
	$(UV) sync --quiet --frozen --all-extras $(COMPILE) --python $(PYTHON)
	@touch $@

demo: setup
	$(BIN)/perilune train LunarLander-v3 --out runs/demo --overwrite $(DEMO)
	$(BIN)/perilune evaluate runs/demo --episodes 50

# Build the documentation site in docs/_build/html.
docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --jobs auto docs docs/_build/html

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python lint/words.py

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# Test the lower bounds in pyproject.toml with the lowest version of each dependency. PYTHON selects the version of Python.
test-lowest: setup
	$(UV) venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(UV) pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[all]'
	$(UV) export --quiet --frozen --no-hashes --only-group dev --output-file .venv-lowest/dev.txt
	$(UV) pip install --quiet --python .venv-lowest --constraint .venv-lowest/dev.txt $(TEST_TOOLS)
	.venv-lowest/bin/pytest -n auto --dist worksteal -W ignore::DeprecationWarning $(LOWEST)

# All tests, including those marked `long`, then the full counts of docs/reference/checkpoints.md. Takes one to two hours.
test-long: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m ""
	$(MAKE) torture

# test_cost.py runs alone: it compares durations.
torture: setup
	$(BIN)/pytest --torture -n 2 -s tests/test_torture.py tests/test_hostile.py
	$(BIN)/pytest --torture -s tests/test_watch_server.py -k half_sent
	$(BIN)/pytest --torture -s tests/test_cost.py

# Measure the figures in docs/explanation/benchmarks.md. Takes hours.
benchmarks: setup
	$(BIN)/perilune bench learning CartPole-v1 --seeds 20 --first-seed 200 --jobs 2
	for env in LunarLander-v3 Acrobot-v1 MountainCar-v0; do \
		$(BIN)/perilune bench learning $$env --seeds 20 --first-seed 50 --jobs 2 || exit 1; done
	$(BIN)/perilune bench learning LunarLander-v3 --no-mirror --seeds 20 --first-seed 50 --jobs 2 \
		--out runs/bench/LunarLander-v3-no-mirror
	for env in CartPole-v1=475 Acrobot-v1=-100 MountainCar-v0=-110; do \
		$(BIN)/perilune bench learning $${env%%=*} --preset fast --envpool --eval-every 2500 --eval-episodes 20 \
			--stop-at-return=$${env#*=} --seeds 20 --first-seed 50 || exit 1; done
	$(BIN)/perilune bench learning LunarLander-v3 --preset fast --envpool --eval-episodes 20 --stop-at-return 200 \
		--seeds 20 --first-seed 70
	$(BIN)/perilune bench learning LunarLander-v3 --preset fast --eval-episodes 20 --stop-at-return 200 \
		--seeds 20 --first-seed 70 --out runs/bench/LunarLander-v3-fast-gymnasium
	$(BIN)/perilune bench learning LunarLander-v3 --preset fast --envpool --eval-episodes 20 --eval-every 250000 \
		--seeds 20 --first-seed 70 --out runs/bench/LunarLander-v3-fast-budget
	$(BIN)/python examples/ablation.py --jobs 2
	$(BIN)/python examples/as_asked.py --jobs 2
	$(BIN)/perilune bench speed

# Train the pre-trained agents again and write them into the package.
pretrained: setup
	$(BIN)/python examples/pretrain.py

clean:
	rm -rf .venv .venv-lowest .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist docs/_build
