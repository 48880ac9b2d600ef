# Everything on a fresh machine with git, make and Python 3.11, 3.12 or 3.13.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(or $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c "$(SUPPORTED)" 2>/dev/null; then echo $$python; break; fi; done),python3)
VENV := .venv
BIN := $(VENV)/bin
export KEDRO_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: run test lint docs ui viz lock clean

run: $(VENV)/installed       ## simulate a sample and run the whole HI-profile study
	$(BIN)/kedro run

# In two parts, each with workers of its own: TensorFlow gives no memory back.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed      ## all tests
	$(PYTEST) tests/test_*.py
	$(PYTEST) tests/*/

lint: $(VENV)/installed      ## style, formatting and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

docs: $(VENV)/installed      ## build/site: all pages and the reference; a dead link is an error
	rm -rf docs/api
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs build/site

STORE ?= sqlite:///mlflow.db
ui: $(VENV)/installed        ## compare runs in MLflow at http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --workers 1 --backend-store-uri '$(STORE)'

viz: $(VENV)/installed       ## browse the lineage in kedro-viz at http://127.0.0.1:4141
	@echo "stages as boxes: http://127.0.0.1:4141/?pid=hi_profiles&types=nodes"
	BROWSER="env BROWSER=$$BROWSER $(BIN)/python -m webbrowser %s?pid=hi_profiles&types=nodes" $(BIN)/kedro viz run

lock: $(VENV)/installed      ## pin all versions anew, without any address
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade --output-file requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c "$(SUPPORTED)" || { echo "Skyloom needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make run PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" || { echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:                       ## remove the environment and all results, but no observations of your own
	rm -rf $(VENV) build docs/api mlflow.db mlflow.db.lock mlartifacts
	find data -path data/real/01_raw -prune -o -type f ! -name .gitkeep -exec rm {} +
