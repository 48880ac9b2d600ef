"""LabelTableDataset."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from skyloom.datasets import LabelTableDataset

# Cells are text, whatever a program would take them for.
TABLE = pd.DataFrame({"cig": [1, 2], "Class": [0, 2], "note": ["a, b", "c"]}).astype(str)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_any_delimiter_is_found_out(tmp_path, separator):
    path = tmp_path / "labels.csv"
    TABLE.to_csv(path, sep=separator, index=False)
    pd.testing.assert_frame_equal(LabelTableDataset(filepath=path).load(), TABLE)


def test_commas_within_quotes(tmp_path):
    TABLE.to_csv(tmp_path / "labels.csv", index=False)
    loaded = LabelTableDataset(filepath=str(tmp_path / "labels.csv")).load()
    pd.testing.assert_frame_equal(loaded, TABLE)


def test_excel(tmp_path):
    TABLE.to_excel(tmp_path / "labels.xlsx", index=False)
    loaded = LabelTableDataset(filepath=tmp_path / "labels.xlsx").load()
    pd.testing.assert_frame_equal(loaded, TABLE)


def test_ids_keep_their_zeros(tmp_path):
    (tmp_path / "labels.csv").write_text("id;class\n007;1\n")
    assert LabelTableDataset(filepath=tmp_path / "labels.csv").load()["id"].tolist() == ["007"]


def test_damaged_rows_are_named(tmp_path, caplog):
    (tmp_path / "labels.csv").write_text("id,class\na,1\nb,2,3\n")
    assert LabelTableDataset(filepath=tmp_path / "labels.csv").load()["id"].tolist() == ["a"]
    assert "1 of 2 rows of labels.csv are damaged" in caplog.text
    assert "line 3: 3 cells instead of 2 in 'b,2,3'" in caplog.text


def test_round_trip_on_any_file_system(memory):
    dataset = LabelTableDataset(filepath="memory:///labels.csv")
    dataset.save(TABLE)
    pd.testing.assert_frame_equal(dataset.load(), TABLE)
    assert memory.cat("/labels.csv").splitlines()[0] == b"cig;Class;note"


def test_no_file_given_is_an_empty_table_that_is_there():
    dataset = LabelTableDataset(filepath=None)
    assert dataset.exists()
    assert dataset.load().shape == (0, 0)
    with pytest.raises(DatasetError, match="no file was given"):
        dataset.save(TABLE)


def test_a_file_given_must_be_there(tmp_path):
    dataset = LabelTableDataset(filepath=tmp_path / "labels.csv")
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"labels\.csv cannot be loaded"):
        dataset.load()


@pytest.mark.parametrize("content", [b"", b"cig;Class\n"], ids=["empty", "no rows"])
def test_a_table_without_rows_is_an_error(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=r"labels\.csv cannot be loaded"):
        LabelTableDataset(filepath=tmp_path / "labels.csv").load()


@pytest.mark.parametrize("name", ["labels.csv", "labels.xlsx"])
def test_bytes_that_are_no_table(tmp_path, name):
    (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(500))
    with pytest.raises(DatasetError, match="cannot be loaded"):
        LabelTableDataset(filepath=tmp_path / name).load()


def test_a_table_of_the_user_is_never_written(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,class\na,1\n")
    dataset = LabelTableDataset(filepath=str(path), writable=False)
    with pytest.raises(DatasetError, match=r"labels\.csv is never written"):
        dataset.save(pd.DataFrame({"id": ["b"]}))
    assert path.read_text() == "id,class\na,1\n"
    assert dataset.load()["id"].tolist() == ["a"]
