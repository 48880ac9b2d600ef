"""ObservationsDataset."""

import pytest
from kedro.io import DatasetError

from skyloom.datasets import ObservationsDataset


@pytest.fixture
def folder(tmp_path):
    for name, content in {
        "a.fits": b"\x00\xff\r\n",
        "night 1/b.csv": b"1,2\n",
        "night 1/deep/c": b"",
        ".DS_Store": b"x",
        ".cache/d.fits": b"x",
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
    with pytest.raises(DatasetError, match=r"b\.csv"):
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
    with pytest.raises(DatasetError, match=r"spectra holds no files"):
        ObservationsDataset(path=str(path)).load()


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
