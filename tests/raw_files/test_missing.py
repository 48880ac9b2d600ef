"""Numbers that stand for none are missing, observations that look like them are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skyloom.raw_files.missing import without_missing


@pytest.mark.parametrize("fill", [1e34, -3.4e38, np.inf, -np.inf, np.nan])
def test_what_is_beyond_anything_observed_is_missing_even_alone(fill):
    np.testing.assert_array_equal(np.isnan(without_missing(np.array([1.0, fill]))), [False, True])


@pytest.mark.parametrize("fill", [-999, 9999, -99, -9999])
@pytest.mark.parametrize("shape", [(40,), (10, 10)])
def test_a_block_of_one_sentinel_is_missing(fill, shape):
    values = np.random.default_rng(0).normal(size=shape)
    values[:8] = fill
    missing = np.isnan(without_missing(values))
    assert missing[:8].all()
    assert not missing[8:].any()


def test_a_single_such_number_is_an_observation():
    values = np.array([1.0, -999.0, 2.0, 9999.0] * 10)
    np.testing.assert_array_equal(without_missing(values), values)


@given(arrays(np.float64, st.integers(0, 50), elements=st.floats(-1e29, 1e29)))
def test_nothing_else_is_changed(values):
    found = without_missing(values)
    kept = np.isfinite(found)
    np.testing.assert_array_equal(found[kept], values[kept])
    assert set(values[~kept]) <= {-999.0, -9999.0, -99.0, -32768.0, 999.0, 9999.0, 99999.0}
