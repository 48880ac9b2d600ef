"""ResultStoreDataset."""

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError

from skyloom.datasets import ResultStoreDataset
from skyloom.learning.tasks import ResultStore, digest


def test_it_opens_a_store_that_is_filled_by_whoever_loads_it(tmp_path):
    dataset = ResultStoreDataset(path=str(tmp_path / "fits"))
    store = dataset.load()
    assert isinstance(store, ResultStore)
    assert not (tmp_path / "fits").exists()  # made when first needed
    key = digest(["a fit"])
    assert store.get(key) is None
    store.put(key, {"x": np.arange(3)})
    np.testing.assert_array_equal(dataset.load().get(key)["x"], [0, 1, 2])


def test_results_are_not_saved_as_a_whole(tmp_path):
    with pytest.raises(DatasetError, match="fits: results are put into the store"):
        ResultStoreDataset(path=str(tmp_path / "fits")).save({})
    assert not (tmp_path / "fits").exists()


def test_it_is_a_catalog_entry_with_metadata(tmp_path):
    entry = {
        "type": "skyloom.datasets.ResultStoreDataset",
        "path": str(tmp_path / "fits"),
        "metadata": {"kedro-viz": {"layer": "training"}},
    }
    catalog = DataCatalog.from_config({"fits": entry})
    assert catalog.load("fits").folder == tmp_path / "fits"
    assert catalog.get("fits").metadata == entry["metadata"]
    assert str(tmp_path / "fits") in str(catalog.get("fits"))
