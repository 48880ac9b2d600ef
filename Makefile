# Everything on a fresh machine with Python 3.11, git and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export KEDRO_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: run test lint ui viz lock clean

run: $(VENV)/installed       ## simulate a sample and run the whole HI-profile study
	$(BIN)/kedro run

test: $(VENV)/installed      ## all tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed      ## style, formatting and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

ui: $(VENV)/installed        ## compare runs in MLflow at http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --workers 1 --backend-store-uri sqlite:///mlflow.db

viz: $(VENV)/installed       ## browse the lineage in kedro-viz at http://127.0.0.1:4141
	@echo "all nodes at once: http://127.0.0.1:4141/?expandAllPipelines=true&pid=hi_profiles"
	$(BIN)/kedro viz run

lock: $(VENV)/installed      ## pin all versions anew, without any address
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade --output-file requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:                       ## remove the environment and all results, but no observations of your own
	rm -rf $(VENV) mlflow.db mlflow.db.lock mlartifacts
	find data -path data/real/01_raw -prune -o -type f ! -name .gitkeep -exec rm {} +
