"""Success rates along a quantity."""

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.scores import success_along, success_interval


def predictions_of(right):
    ids = [f"s{k}" for k in range(len(right))]
    table = pd.DataFrame({"id": ids, "class": 0, "predicted": np.where(right, 0, 1)})
    return pd.concat(
        [table.assign(configuration=name, seed=seed) for name in "ab" for seed in (0, 1)]
    )


def test_bins_have_equal_numbers_and_their_own_rates():
    right = np.arange(12) >= 6  # the bright half
    values = pd.Series(np.arange(12.0), index=[f"s{k}" for k in range(12)])
    table = success_along(predictions_of(right), values, 2)
    assert table.groupby("configuration")["n_objects"].apply(list).to_dict() == {
        "a": [6, 6], "b": [6, 6]
    }  # fmt: skip
    first = table[table["configuration"] == "a"]
    assert first["success_rate"].tolist() == [0, 1]
    assert first[["low", "value", "high"]].to_numpy().tolist() == [[0, 2.5, 5], [6, 8.5, 11]]
    # Two seeds are not twice as many objects.
    ends = first[["success_rate_low", "success_rate_high"]].iloc[1]
    assert tuple(ends) == pytest.approx(success_interval(1.0, 6))


def test_objects_without_a_value_are_left_out():
    values = pd.Series([1.0, np.nan, 3.0], index=["s0", "s1", "s2"])
    table = success_along(predictions_of(np.ones(3, bool)), values, 1)
    assert table["n_objects"].tolist() == [2, 2]
    assert success_along(predictions_of(np.ones(3, bool)), values * np.nan, 3).empty


def test_equal_values_share_a_bin():
    values = pd.Series(5.0, index=[f"s{k}" for k in range(4)])
    assert len(success_along(predictions_of(np.ones(4, bool)), values, 4)) == 2
