"""ParametersDataset: a validated model as a file."""

import json

import pytest
from kedro.io import DataCatalog, DatasetError

from skyloom.datasets import ParametersDataset
from skyloom.learning.configurations import SearchAxis

MODEL = "skyloom.learning.configurations.SearchAxis"


def dataset(folder, model=MODEL):
    return ParametersDataset(model=model, filepath=str(folder / "axis.json"))


def test_a_model_comes_back_as_it_was(tmp_path):
    axis = SearchAxis(low=1e-4, high=0.1, log=True)
    dataset(tmp_path).save(axis)
    assert dataset(tmp_path).load() == axis
    assert isinstance(dataset(tmp_path).load(), SearchAxis)


def test_the_file_can_be_read_without_this_project(tmp_path):
    dataset(tmp_path).save(SearchAxis(low=1, high=2))
    content = json.loads((tmp_path / "axis.json").read_text())
    assert content == {"low": 1.0, "high": 2.0, "log": False, "step": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"low": 2, "high": 1}', "low must be below high"),
        ('{"low": 1, "high": 2, "depth": 3}', "depth"),
        ('{"low": 1}', "high"),
        ("not JSON", "JSON"),
    ],
)
def test_a_file_that_holds_something_else_is_an_error_that_says_what(tmp_path, text, message):
    (tmp_path / "axis.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        dataset(tmp_path).load()


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"axis\.json"):
        dataset(tmp_path).load()


def test_it_is_an_entry_of_a_catalog(tmp_path):
    entry = {
        "type": "skyloom.datasets.ParametersDataset",
        "model": MODEL,
        "filepath": str(tmp_path / "axis.json"),
        "metadata": {"kedro-viz": {"layer": "ingestion"}},
    }
    catalog = DataCatalog.from_config({"axis": entry})
    catalog.save("axis", SearchAxis(low=1, high=2))
    assert catalog.load("axis") == SearchAxis(low=1, high=2)
    assert catalog.get("axis").metadata == entry["metadata"]
