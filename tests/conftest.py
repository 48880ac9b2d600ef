"""Fixtures for tests of the whole project."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
from hypothesis import settings

# Before TensorFlow is imported anywhere: no banner, no telemetry.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")

# Two workers on two cores: more threads only wait for each other. Before NumPy is imported.
for variable in (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
):
    os.environ.setdefault(variable, "1")

# Machines are shared: how long an example takes says nothing. The same examples in every run.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Whole studies first: a worker that has a long file left at the end would work alone."""
    studies = {item.path for item in items if "shared_project" in item.fixturenames}
    items.sort(key=lambda item: item.path not in studies)


@pytest.fixture(scope="session")
def root():
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def real_observations():
    """Folder of real observations, beside the repository; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data" / "hi_profiles"
    if not folder.is_dir():
        pytest.skip(f"real observations are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An MLflow store, whose tables take seconds to make, for all projects."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def copy_project(folder, store):
    """Copy the project's configuration into an empty folder, so that runs write there."""
    shutil.copy(store, folder)
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _no_tracking_server_of_another_module():
    """Fixtures of a module never log to a server that is configured, or was used before them."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def _no_tracking_server():
    """Tests never do; MLflow writes down in the environment what it was told."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def project(tmp_path, empty_store):
    """A project of its own for one test."""
    return copy_project(tmp_path, empty_store)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory, empty_store):
    """A project shared by the tests of a module."""
    return copy_project(tmp_path_factory.mktemp("project"), empty_store)
