"""KerasModelDataset."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from kedro.io import DatasetError, Version

from skyloom.datasets import KerasModelDataset


@pytest.fixture(scope="module")
def model():
    import keras

    layers = keras.layers
    image = layers.Input((8, 8, 1), name="image")
    features = layers.MaxPooling2D(name="pool")(layers.Conv2D(2, 3, name="convolution")(image))
    encoder = keras.Model(image, layers.Flatten(name="flat")(features), name="encoder")
    model = keras.Sequential([layers.Input((8, 8, 1)), encoder, layers.Dense(3, name="classes")])
    model.compile("adam", "mse")
    model.train_on_batch(IMAGES, np.zeros((4, 3)))
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    dataset = KerasModelDataset(filepath=tmp_path_factory.mktemp("models") / "model.keras")
    dataset.save(model)
    return dataset


IMAGES = np.random.default_rng(1).normal(size=(4, 8, 8, 1))


def predict(model):
    return np.asarray(model(IMAGES))


def test_round_trip(saved, model):
    loaded = saved.load()
    assert np.array_equal(predict(loaded), predict(model))
    assert loaded.compiled
    assert os.listdir(saved._filepath.parent) == ["model.keras"]


def test_plain_keras_reads_it(saved, model):
    import keras

    assert np.array_equal(predict(keras.saving.load_model(saved._filepath)), predict(model))


def test_load_args(saved):
    dataset = KerasModelDataset(filepath=saved._filepath, load_args={"compile": False})
    assert not dataset.load().compiled


def test_remote_and_versioned(memory, model):
    path = "memory:///models/model.keras"
    dataset = KerasModelDataset(filepath=path, version=Version(None, None))
    dataset.save(model)
    assert np.array_equal(predict(dataset.load()), predict(model))


def test_code_in_a_file_is_refused(tmp_path):
    import keras

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    dataset = KerasModelDataset(filepath=tmp_path / "code.keras")
    dataset.save(model)
    with pytest.raises(DatasetError, match=r"code\.keras cannot be loaded.*(?s:.*)[Ll]ambda"):
        dataset.load()
    with pytest.raises(DatasetError, match="safe_mode"):
        KerasModelDataset(filepath=dataset._filepath, load_args={"safe_mode": False}).load()


@pytest.mark.parametrize("fraction", [0, 0.01, 0.5, 0.999])
def test_truncated(saved, tmp_path, fraction):
    content = Path(saved._filepath).read_bytes()
    (tmp_path / "half.keras").write_bytes(content[: int(len(content) * fraction)])
    dataset = KerasModelDataset(filepath=tmp_path / "half.keras")
    for read in (dataset.load, dataset.preview):
        with pytest.raises(DatasetError, match=r"half\.keras cannot be loaded"):
            read()


@pytest.mark.parametrize("content", [b"nothing of the kind", b"\x89HDF\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["other.keras", "other.h5"])
def test_other_formats_are_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=r"other\.\w+ cannot be loaded"):
        KerasModelDataset(filepath=tmp_path / name).load()


def test_failed_save_leaves_the_old_file(saved):
    before = Path(saved._filepath).read_bytes()
    with pytest.raises(DatasetError, match=r"model\.keras"):
        saved.save("no model")
    assert Path(saved._filepath).read_bytes() == before
    assert os.listdir(saved._filepath.parent) == ["model.keras"]


def test_preview(saved, in_viz):
    preview, kind = in_viz(saved)
    assert kind == "TablePreview"
    assert preview["columns"] == ["layer", "type", "output shape", "parameters"]
    assert [tuple(row) for row in preview["data"]] == [
        ("encoder/image", "InputLayer", "(None, 8, 8, 1)", 0),
        ("encoder/convolution", "Conv2D", "(None, 6, 6, 2)", 20),
        ("encoder/pool", "MaxPooling2D", "(None, 3, 3, 2)", 0),
        ("encoder/flat", "Flatten", "(None, 18)", 0),
        ("classes", "Dense", "(None, 3)", 57),
    ]


def test_preview_of_a_model_saved_elsewhere(model, tmp_path, in_viz):
    model.save(tmp_path / "foreign.keras")
    preview, _ = in_viz(KerasModelDataset(filepath=tmp_path / "foreign.keras"))
    assert preview["data"][1:] == [
        ["encoder", "Functional", "", ""],
        ["classes", "Dense", "", ""],
    ]


def test_model_of_ones_own_class(tmp_path):
    import keras

    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(2, name="dense")

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.ones((1, 3)))
    dataset = KerasModelDataset(filepath=tmp_path / "own.keras")
    dataset.save(own)
    (row,) = dataset.preview()["data"]
    assert row[:2] + row[3:] == ["dense", "Dense", 8]
    assert np.array_equal(dataset.load()(np.ones((1, 3))), own(np.ones((1, 3))))
    with ZipFile(tmp_path / "own.keras") as archive:
        assert archive.testzip() is None


def test_nothing_heavy_is_imported_before_it_is_needed(saved):
    code = f"""if True:
        import sys
        from skyloom.datasets import FITSDataset, KerasModelDataset, NpyDataset
        for kind in FITSDataset, KerasModelDataset, NpyDataset:
            dataset = kind(filepath={str(saved._filepath)!r})
            assert dataset.exists()
        heavy = {{"astropy", "dask", "keras", "matplotlib", "tensorflow"}}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        assert KerasModelDataset(filepath={str(saved._filepath)!r}).preview()["data"]
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)
