"""NpyDataset."""

import os

import dask
import dask.array
import numpy as np
import pytest
from kedro.io import DatasetError

from skyloom.datasets import NpyDataset


@pytest.fixture
def dataset(tmp_path):
    return NpyDataset(filepath=tmp_path / "a.npy")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3.0),
        np.zeros((0, 3)),
        np.array(["M31", "é"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([1 + 2j, np.nan]),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["r", "c", None])
def test_round_trip(dataset, array, mode):
    dataset.save(array)
    loaded = NpyDataset(filepath=dataset._filepath, load_args={"mmap_mode": mode}).load()
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    assert isinstance(loaded, np.memmap) == (mode is not None)
    assert loaded.flags.writeable == (mode != "r")


def test_copy_on_write_leaves_the_file(dataset):
    dataset.save([1, 2])
    NpyDataset(filepath=dataset._filepath, load_args={"mmap_mode": "c"}).load()[:] = 9
    assert dataset.load().tolist() == [1, 2]


@pytest.mark.parametrize("mode", ["r+", "w+", "x"])
def test_modes_that_would_change_the_file(dataset, mode):
    dataset.save([1, 2])
    with pytest.raises(DatasetError, match="mmap_mode is"):
        NpyDataset(filepath=dataset._filepath, load_args={"mmap_mode": mode}).load()
    assert dataset.load().tolist() == [1, 2]


def test_open_map_survives_a_new_save(dataset):
    dataset.save(np.arange(10_000))
    old = dataset.load()
    dataset.save(old[::-1])
    assert np.array_equal(old, np.arange(10_000))
    assert np.array_equal(dataset.load(), np.arange(10_000)[::-1])


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_dask_array(dataset, scheduler):
    array = np.random.default_rng(1).normal(size=(50, 7, 3)).astype("f4")
    with dask.config.set(scheduler=scheduler, num_workers=2):
        dataset.save(dask.array.from_array(array, chunks=(20, 4, 3)))
    loaded = dataset.load()
    assert isinstance(loaded, np.memmap)
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)


@pytest.mark.parametrize("array", [np.array(3.0), np.zeros((0, 3))], ids=str)
def test_small_dask_array(dataset, array):
    dataset.save(dask.array.from_array(array))
    np.testing.assert_array_equal(dataset.load(), array)


def test_dask_array_in_its_own_file(dataset):
    dataset.save(np.arange(1000))
    dataset.save(dask.array.from_array(dataset.load(), chunks=100) * 2)
    assert np.array_equal(dataset.load(), np.arange(1000) * 2)


def test_failed_dask_save_leaves_the_old_file(dataset, tmp_path):
    def fail(chunk):
        raise ArithmeticError("no such chunk")

    dataset.save([1, 2])
    broken = dask.array.ones(4, chunks=2).map_blocks(fail, dtype=float, meta=np.ones(0))
    with pytest.raises(DatasetError, match="no such chunk"):
        dataset.save(broken)
    assert dataset.load().tolist() == [1, 2]
    assert os.listdir(tmp_path) == ["a.npy"]


def test_dask_array_of_unknown_shape(dataset):
    array = dask.array.arange(10, chunks=5)
    with pytest.raises(DatasetError, match="compute_chunk_sizes"):
        dataset.save(array[array > 3])


@pytest.mark.parametrize(
    "data",
    [np.array([{}, None]), dask.array.from_array(np.array([{}, None]), chunks=1)],
    ids=["npy", "dask"],
)
def test_objects_are_refused(dataset, data):
    with pytest.raises(DatasetError, match=r"(?i)a\.npy.*\n.*objects?"):
        dataset.save(data)
    assert not dataset.exists()


@pytest.mark.parametrize("mode", ["r", None])
def test_pickles_are_refused(dataset, mode):
    np.save(dataset._filepath, np.array([{}]), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"a\.npy cannot be loaded: .*bject"):
        NpyDataset(filepath=dataset._filepath, load_args={"mmap_mode": mode}).load()


@pytest.mark.parametrize("mode", ["r", None])
@pytest.mark.parametrize("size", [5, 100, 500])
def test_truncated(dataset, size, mode):
    dataset.save(np.ones(1000))
    os.truncate(dataset._filepath, size)
    with pytest.raises(DatasetError, match=r"a\.npy cannot be loaded"):
        NpyDataset(filepath=dataset._filepath, load_args={"mmap_mode": mode}).load()


@pytest.mark.parametrize("array", [np.eye(3), dask.array.eye(3, chunks=2)], ids=["npy", "dask"])
def test_remote(memory, array):
    dataset = NpyDataset(filepath="memory:///arrays/a.npy")
    dataset.save(array)
    dataset.save(array)
    loaded = dataset.load()
    assert np.array_equal(loaded, np.eye(3))
    assert not isinstance(loaded, np.memmap)
    assert memory.ls("/arrays", detail=False) == ["/arrays/a.npy"]


@pytest.mark.parametrize(
    "array",
    [
        np.ones(()),
        np.arange(5),
        np.eye(3),
        np.eye(50, dtype=bool),
        np.random.default_rng(1).normal(size=(2500, 8)),
        np.ones((20, 8, 8)),
        np.eye(8)[np.newaxis].repeat(3, 0) * 1j,
        np.ones((2, 8, 8, 1), "u1"),
        np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3),
        np.full((2, 3, 8, 8), np.nan),
        np.ones((4, 3, 8, 9, 3)),
        np.zeros((0, 8, 8)),
    ],
    ids=lambda array: str(array.shape),
)
def test_preview(dataset, array, in_viz, pixels_of):
    dataset.save(array)
    preview, kind = in_viz(dataset)
    assert kind == "ImagePreview"
    assert np.ptp(pixels_of(preview)) > 0.5
