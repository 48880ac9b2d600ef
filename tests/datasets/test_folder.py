"""Folders: of observations, and of partitions that may be empty."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from skyloom.datasets import NpyPartitionsDataset, ObservationsDataset, PartitionsDataset
from skyloom.raw_files import UnusableError


@pytest.fixture
def folder(tmp_path):
    for name, content in {
        "a.fits": b"\x00\xff\r\n",
        "night 1/b.csv": b"1,2\n",
        "night 1/deep/c": b"",
        ".DS_Store": b"x",
        ".cache/d.fits": b"x",
        "__MACOSX/a.fits": b"x",
        "night 1/Thumbs.db": b"x",
        "night 1/.e.fits.123.tmp": b"x",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_every_file_but_hidden_ones_is_read_byte_for_byte(folder):
    files = ObservationsDataset(path=str(folder)).load()
    assert {name: read() for name, read in files.items()} == {
        "a.fits": b"\x00\xff\r\n",
        "night 1/b.csv": b"1,2\n",
        "night 1/deep/c": b"",
    }


def test_files_are_read_only_when_called(folder):
    files = ObservationsDataset(path=str(folder)).load()
    (folder / "a.fits").write_bytes(b"changed")
    (folder / "night 1/b.csv").unlink()
    assert files["a.fits"]() == b"changed"
    with pytest.raises(FileNotFoundError, match=r"b\.csv"):
        files["night 1/b.csv"]()


def test_a_hidden_folder_above_hides_nothing(tmp_path):
    (tmp_path / ".home").mkdir()
    (tmp_path / ".home" / "a.fits").write_bytes(b"a")
    assert list(ObservationsDataset(path=str(tmp_path / ".home")).load()) == ["a.fits"]


@pytest.mark.parametrize("case", ["missing", "empty", "only hidden"])
def test_a_folder_without_files_is_an_error_that_names_it(tmp_path, case):
    path = tmp_path / "spectra"
    if case != "missing":
        path.mkdir()
    if case == "only hidden":
        (path / ".a.fits").write_bytes(b"a")
    words = "there is no folder" if case == "missing" else "holds no files"
    with pytest.raises(DatasetError, match=rf"{words}.*: observations expected") as caught:
        ObservationsDataset(path=str(path)).load()
    assert str(path) in str(caught.value)


def test_a_missing_folder_named_by_a_number_may_have_lost_its_zeros(tmp_path):
    with pytest.raises(DatasetError, match=r"no folder .*/2\.5: .*write \./010 or \./2\.50"):
        ObservationsDataset(path=str(tmp_path / "2.5")).load()


def test_a_file_in_place_of_a_folder_is_read_under_its_name(folder):
    files = ObservationsDataset(path=str(folder / "night 1/b.csv")).load()
    assert {name: read() for name, read in files.items()} == {"b.csv": b"1,2\n"}


def test_links_to_folders_and_files_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "deep").mkdir()
    (elsewhere / "deep/x.fits").write_bytes(b"x")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "y.fits").symlink_to(elsewhere / "deep/x.fits")
    files = ObservationsDataset(path=str(folder)).load()
    assert files["linked/deep/x.fits"]() == files["y.fits"]() == b"x"


@pytest.mark.parametrize("target", [".", "night 1", "elsewhere"])
def test_links_that_lead_back_give_every_file_once(folder, tmp_path_factory, target):
    (folder / "night 1/circle").symlink_to((folder / target).resolve())
    if target == "elsewhere":
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "z.fits").write_bytes(b"z")
        (elsewhere / "back").symlink_to(elsewhere)
        (folder / "elsewhere").symlink_to(elsewhere)
        (folder / "again").symlink_to(elsewhere)
    names = sorted(ObservationsDataset(path=str(folder)).load())
    more = {"elsewhere": ["again/z.fits"]}.get(target, [])
    assert names == sorted(["a.fits", "night 1/b.csv", "night 1/deep/c", *more])


def test_a_link_to_the_folder_above_gives_what_else_is_there_once(folder):
    (folder / "night 1/above").symlink_to(folder)
    names = sorted(ObservationsDataset(path=str(folder / "night 1")).load())
    assert names == ["above/a.fits", "b.csv", "deep/c"]


def test_what_is_no_regular_file_is_refused_and_never_opened(folder):
    os.mkfifo(folder / "pipe.fits")
    (folder / "broken.fits").symlink_to(folder / "gone.fits")
    (folder / "null.fits").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket must be short
        server.bind("socket.fits")
        os.chdir(here)
    files = ObservationsDataset(path=str(folder)).load()
    for name in ("pipe.fits", "broken.fits", "null.fits", "socket.fits"):
        with pytest.raises(UnusableError) as caught:
            files[name]()
        assert caught.value.reason == "not a regular file"
    assert files["a.fits"]() == b"\x00\xff\r\n"


def test_a_sub_folder_that_cannot_be_listed_is_refused_with_its_name(folder, monkeypatch):
    scan = os.scandir

    def closed(path):
        if str(path).endswith("night 1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    files = ObservationsDataset(path=str(folder)).load()
    assert sorted(files) == ["a.fits", "night 1"]
    with pytest.raises(UnusableError, match=r"unreadable folder: .*Permission denied"):
        files["night 1"]()


def test_a_name_that_is_no_text_can_be_written_into_tables(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.fits")).write_bytes(b"1")
    files = ObservationsDataset(path=str(folder)).load()
    assert files["\\xff.fits"]() == b"1"


def test_a_pipe_in_place_of_a_folder_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="neither a folder nor a regular file"):
        ObservationsDataset(path=str(tmp_path / "pipe")).load()


def test_observations_are_never_written(folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(DatasetError, match="never written"):
        ObservationsDataset(path=str(folder)).save({"a.fits": b"new"})
    assert sorted(folder.rglob("*")) == before
    assert (folder / "a.fits").read_bytes() == b"\x00\xff\r\n"


def test_other_file_systems(memory):
    memory.pipe("/spectra/sub/a.fits", b"a")
    files = ObservationsDataset(path="memory://spectra").load()
    assert [read() for read in files.values()] == [b"a"]
    assert list(files) == ["sub/a.fits"]


# --- partitions -----------------------------------------------------------------------------------


def texts(path):
    return PartitionsDataset(
        path=str(path), dataset="kedro_datasets.text.TextDataset", filename_suffix=".txt"
    )


@pytest.mark.parametrize("exists", [True, False])
def test_partitions_of_which_none_was_saved_are_none_and_no_error(tmp_path, exists):
    folder = tmp_path / "texts"
    if exists:
        folder.mkdir()
    assert texts(folder).load() == {}


def test_partitions_are_functions_by_name(tmp_path):
    texts(tmp_path).save({"a": "1", "b": "2"})
    loaded = texts(tmp_path).load()
    assert {name: read() for name, read in loaded.items()} == {"a": "1", "b": "2"}


def test_saving_no_partitions_leaves_a_dataset_that_can_be_loaded(tmp_path):
    dataset = texts(tmp_path / "texts")
    dataset.save({})
    assert dataset.load() == {}


# --- arrays ---------------------------------------------------------------------------------------


@pytest.fixture
def arrays(tmp_path):
    return NpyPartitionsDataset(path=str(tmp_path / "arrays"))


def test_arrays_come_back_as_read_only_maps(arrays, tmp_path):
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(4, 3)), np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    arrays.save({"16px-aa": one, "32px-bb": two})
    assert sorted(p.name for p in (tmp_path / "arrays").iterdir()) == ["16px-aa.npy", "32px-bb.npy"]
    loaded = arrays.load()
    assert sorted(loaded) == ["16px-aa", "32px-bb"]
    np.testing.assert_array_equal(loaded["16px-aa"](), one)
    again = loaded["32px-bb"]()
    np.testing.assert_array_equal(again, two)
    assert again.dtype == np.uint8
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable


def test_dask_arrays_are_computed_as_they_are_saved(arrays):
    da = pytest.importorskip("dask.array")
    rows = da.arange(100, chunks=30)
    drawn = rows.map_blocks(
        lambda block: np.stack([block, -block], axis=1), new_axis=1, chunks=(rows.chunks[0], (2,))
    )
    arrays.save({"lazy": drawn})
    expected = np.stack([np.arange(100), -np.arange(100)], axis=1)
    np.testing.assert_array_equal(arrays.load()["lazy"](), expected)


def test_arrays_of_an_earlier_run_are_removed(arrays, tmp_path):
    arrays.save({"old": np.zeros(3), "both": np.zeros(3)})
    arrays.save({"both": np.ones(3)})
    assert list(arrays.load()) == ["both"]
    np.testing.assert_array_equal(arrays.load()["both"](), np.ones(3))
    assert [p.name for p in (tmp_path / "arrays").iterdir()] == ["both.npy"]


def test_a_run_without_arrays_removes_those_of_an_earlier_one(arrays):
    arrays.save({"old": np.zeros(3)})
    arrays.save({})
    assert arrays.load() == {}


def test_nothing_saved_is_no_error(arrays):
    assert arrays.load() == {}


def test_the_first_array_is_previewed(arrays, in_viz, pixels_of):
    images = np.zeros((2, 8, 8))
    images[:, :4] = 1
    arrays.save({"b": np.zeros((3, 8, 8)), "a": images})
    preview, kind = in_viz(arrays)
    assert kind == "ImagePreview"
    alone = NpyPartitionsDataset(path=str(arrays._path) + "2")
    alone.save({"a": images})
    np.testing.assert_array_equal(pixels_of(preview), pixels_of(in_viz(alone)[0]))


@pytest.mark.parametrize("exists", [True, False])
def test_no_arrays_have_a_preview_too(arrays, in_viz, pixels_of, exists):
    if exists:
        arrays.save({})
    preview, kind = in_viz(arrays)
    assert kind == "ImagePreview"
    assert pixels_of(preview).ndim == 3
