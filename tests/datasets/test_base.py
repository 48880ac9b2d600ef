"""What holds for all datasets; test_keras_model.py has the same for the one that is slow."""

import os
import pickle

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError, Version

from skyloom.datasets import FITSDataset, KerasModelDataset, NpyDataset

KINDS = pytest.mark.parametrize("kind", [FITSDataset, NpyDataset])


@KINDS
@pytest.mark.parametrize("content", [b"", b"not what it says", b"PK\x03\x04"])
def test_unreadable_file_is_named(kind, content, tmp_path):
    path = tmp_path / "broken.fits"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"broken\.fits cannot be loaded"):
        kind(filepath=path).load()


@KINDS
def test_missing_file_is_named(kind, tmp_path):
    dataset = kind(filepath=tmp_path / "missing.fits")
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"missing\.fits cannot be loaded"):
        dataset.load()


@KINDS
def test_failed_save_leaves_the_old_file(kind, tmp_path):
    path = tmp_path / "old.fits"
    path.write_bytes(b"old")
    with pytest.raises(DatasetError, match=r"old\.fits"):
        kind(filepath=path).save(object())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old.fits"]


@pytest.mark.parametrize("folder", ["memory:///deep/", "{tmp_path}/"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_save_leaves_the_old_file(folder, error, tmp_path, memory, monkeypatch):
    dataset = NpyDataset(filepath=folder.format(tmp_path=tmp_path) + "a.npy")
    dataset.save([1, 2])

    def write(self, data, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise error

    monkeypatch.setattr(NpyDataset, "_write", write)
    with pytest.raises((DatasetError, KeyboardInterrupt)):
        dataset.save([3])
    assert dataset.load().tolist() == [1, 2]
    assert len(dataset._fs.ls(str(dataset._filepath.parent))) == 1


@pytest.mark.parametrize("kind", [FITSDataset, KerasModelDataset, NpyDataset])
def test_pickle(kind, tmp_path):
    dataset = kind(filepath=tmp_path / "a", load_args={"hdu": 1}, metadata={"x": 1})
    again = pickle.loads(pickle.dumps(dataset))
    assert repr(again) == repr(dataset)
    assert again.metadata == {"x": 1}


def test_pickled_dataset_loads(tmp_path):
    dataset = NpyDataset(filepath=tmp_path / "a.npy")
    dataset.save([1, 2])
    assert pickle.loads(pickle.dumps(dataset)).load().tolist() == [1, 2]


@pytest.mark.parametrize("folder", ["memory:///runs/", "{tmp_path}/runs/"])
def test_versions(folder, tmp_path, memory):
    path = folder.format(tmp_path=tmp_path) + "a.npy"
    latest = Version(None, None)
    assert not NpyDataset(filepath=path, version=latest).exists()
    NpyDataset(filepath=path, version=Version(None, "2026-01-01")).save([1])
    NpyDataset(filepath=path, version=Version(None, "2026-01-02")).save([2])
    assert NpyDataset(filepath=path, version=latest).load().tolist() == [2]
    assert NpyDataset(filepath=path, version=Version("2026-01-01", None)).load().tolist() == [1]
    with pytest.raises(DatasetError, match="must not exist"):
        NpyDataset(filepath=path, version=Version(None, "2026-01-02")).save([3])


def test_new_version_with_each_save(tmp_path, monkeypatch):
    times = iter("abc")
    monkeypatch.setattr("kedro.io.core.generate_timestamp", lambda: next(times))
    dataset = NpyDataset(filepath=tmp_path / "a.npy", version=Version(None, None))
    for value in range(3):
        dataset.save([value])
        assert dataset.load().tolist() == [value]
    assert dataset.list_versions(full_path=False) == ["c", "b", "a"]


def test_version_beside_an_unversioned_file(tmp_path):
    NpyDataset(filepath=tmp_path / "a.npy").save([1])
    with pytest.raises(DatasetError, match="versioning was enabled"):
        NpyDataset(filepath=tmp_path / "a.npy", version=Version(None, None)).save([2])


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    NpyDataset(filepath="~/deep/a.npy").save([1])
    assert (tmp_path / "deep" / "a.npy").exists()


def test_catalog_entry(tmp_path):
    catalog = DataCatalog.from_config(
        {
            "spectra": {
                "type": "skyloom.datasets.NpyDataset",
                "filepath": f"{tmp_path}/spectra.npy",
                "load_args": {"mmap_mode": None},
                "metadata": {"kedro-viz": {"layer": "features"}},
            }
        }
    )
    catalog["spectra"].save(np.eye(2))
    assert np.array_equal(catalog["spectra"].load(), np.eye(2))
    assert "credentials" not in repr(catalog["spectra"])
