"""RegisteredModelDataset: models with a description, and nothing that could run code."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from kedro.io import DatasetError

from skyloom.datasets import RegisteredModelDataset

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

DESCRIPTION = {
    "trained": True,
    "class_names": ["symmetric", "lopsided"],
    "temperature": 1.5,
    "sample": {"mean": [0.1, 2.0], "limit": 3.0},
}
INPUTS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def network(*layers):
    import keras

    return keras.Sequential([keras.layers.Input((4,)), *layers])


def save(model, folder, metadata):
    import mlflow

    mlflow.tensorflow.save_model(model, str(folder), metadata=metadata)
    return folder


@pytest.fixture(scope="module")
def model():
    import keras

    return network(keras.layers.Dense(2, activation="softmax"))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return save(model, tmp_path_factory.mktemp("mlflow") / "model", DESCRIPTION)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def dataset_of(model, root):
    return RegisteredModelDataset(
        model=str(model), tracking_uri="sqlite:///mlflow.db", path=str(root)
    )


def test_a_folder_gives_the_model_and_its_description(saved, model, tmp_path):
    loaded, description = dataset_of(saved, tmp_path).load()
    assert description == DESCRIPTION
    np.testing.assert_allclose(
        loaded.predict_on_batch(INPUTS), model.predict_on_batch(INPUTS), rtol=1e-6
    )
    assert list(tmp_path.iterdir()) == []  # no tracking store was made


def test_a_registered_model_is_found_by_name_and_alias_in_the_project(model, tmp_path):
    from skyloom.tracking import ParentRun

    config = {"tracking_uri": "sqlite:///mlflow.db", "experiment": "e", "artefacts": "files"}
    parent = ParentRun.start(config, tmp_path, tags={})
    parent.register_model(model, DESCRIPTION, INPUTS[:1], name="shapes", alias="selected")
    parent.finish("FINISHED")
    for address in ("models:/shapes@selected", "models:/shapes/1"):
        loaded, description = dataset_of(address, tmp_path).load()
        assert description == DESCRIPTION
        np.testing.assert_allclose(
            loaded.predict_on_batch(INPUTS), model.predict_on_batch(INPUTS), rtol=1e-6
        )
    with pytest.raises(DatasetError, match="models:/shapes@best"):
        dataset_of("models:/shapes@best", tmp_path).load()


@pytest.mark.parametrize(
    "model", ["models:/nothing@selected", "models:/nothing/3", "runs:/0/classifier", "/no/where"]
)
def test_a_missing_model_is_an_error_that_names_it(model, tmp_path):
    with pytest.raises(DatasetError, match=f"no model '{model}' to classify with"):
        dataset_of(model, tmp_path).load()


@pytest.mark.parametrize("metadata", [None, {}, {"trained": False}, {"author": "somebody"}])
def test_a_model_that_does_not_say_what_it_was_trained_for_is_refused(folder, metadata):
    about = yaml.safe_load((folder / "MLmodel").read_text())
    about["metadata"] = metadata
    (folder / "MLmodel").write_text(yaml.safe_dump(about))
    with pytest.raises(DatasetError, match=r"model' does not describe its classes"):
        dataset_of(folder, folder.parent).load()


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(folder):
    exploded = folder.parent / "exploded"
    bomb = pickle.dumps(_Bomb(exploded))
    pickle.loads(bomb)  # it works
    exploded.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "MLmodel":
            file.write_bytes(bomb)
    with pytest.raises(DatasetError, match=r"model\.keras cannot be loaded"):
        dataset_of(folder, folder.parent).load()
    assert not exploded.exists()


def test_code_of_the_model_is_not_run(folder):
    exploded = folder.parent / "exploded"
    (folder / "code").mkdir()
    (folder / "code" / "bomb.py").write_text(f"open({str(exploded)!r}, 'w')\n")
    about = yaml.safe_load((folder / "MLmodel").read_text())
    about["flavors"]["python_function"] |= {"loader_module": "bomb", "code": "code"}
    about["flavors"]["tensorflow"]["code"] = "code"
    (folder / "MLmodel").write_text(yaml.safe_dump(about))
    (folder / "data" / "keras_module.txt").write_text("bomb")
    dataset_of(folder, folder.parent).load()
    assert not exploded.exists()


def test_a_layer_with_code_of_its_own_is_refused(folder):
    import keras

    unsafe = network(keras.layers.Lambda(lambda x: x + 1))
    unsafe.save(folder / "data" / "model.keras")
    with pytest.raises(DatasetError, match=r"(?s)model\.keras cannot be loaded.*[Ll]ambda"):
        dataset_of(folder, folder.parent).load()


def test_a_model_of_another_kind_is_an_error(folder):
    (folder / "data" / "model.keras").unlink()
    with pytest.raises(DatasetError, match=r"model\.keras"):
        dataset_of(folder, folder.parent).load()


def test_models_are_never_written(saved, tmp_path):
    with pytest.raises(DatasetError, match="registered at the end of a training run"):
        dataset_of(saved, tmp_path).save((None, {}))


def test_the_environment_variable_wins_over_the_configured_store(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    with pytest.raises(DatasetError, match="no model 'models:/nothing/1'"):
        dataset_of("models:/nothing/1", tmp_path).load()
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_the_store_is_not_left_behind_for_whoever_uses_mlflow_next(tmp_path, monkeypatch):
    import mlflow

    mlflow.set_tracking_uri("")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow has set it
    before = mlflow.get_tracking_uri()
    with pytest.raises(DatasetError):
        dataset_of("models:/nothing/1", tmp_path).load()
    assert mlflow.get_tracking_uri() == before
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_registry_that_was_used_before_is_not_searched(tmp_path):
    import mlflow

    theirs = tmp_path / "theirs.db"
    mlflow.set_registry_uri(f"sqlite:///{theirs}")
    try:
        with pytest.raises(DatasetError):
            dataset_of("models:/nothing/1", tmp_path).load()
    finally:
        mlflow.set_registry_uri("")
    assert not theirs.exists()
    assert (tmp_path / "mlflow.db").exists()
