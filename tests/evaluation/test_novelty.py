"""Objects unlike a sample: as rare within it as promised, noticed far from it."""

import json

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.novelty import describe_sample, distance_from_sample

NAMES = ["a_flux", "snr", "w20"]


def draw(n, seed=0, names=NAMES):
    """Features of very different sizes that belong together."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, len(names))) @ [[1, 0.8, 0], [0, 0.6, 0], [0, 0, 1]]
    return pd.DataFrame(mixed * [0.05, 2.0, 150.0] + [0.1, 3.0, 300.0], columns=names)


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_promised_share_of_the_sample_is_within_the_limit(level):
    features = draw(1000)
    sample = describe_sample(features, level=level)
    assert sample["level"] == level
    beyond = distance_from_sample(features, sample) > 1
    assert beyond.mean() == pytest.approx(1 - level, abs=0.0015)


def test_one_in_a_hundred_others_of_the_same_kind_is_beyond_the_limit():
    sample = describe_sample(draw(20_000))
    beyond = distance_from_sample(draw(20_000, seed=1), sample) > 1
    assert beyond.mean() == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_object_far_off_in_any_feature_is_noticed(name, sign):
    features = draw(300)
    far = features.mean().to_frame().T
    far[name] += sign * 8 * features[name].std()
    assert distance_from_sample(far, describe_sample(features))[0] > 1.5


def test_an_object_that_breaks_a_relation_is_noticed_though_each_feature_is_common():
    features = draw(500)
    odd = features.mean() + features.std() * [2.0, -2.0, 0.0]
    along = features.mean() + features.std() * [2.0, 2.0, 0.0]
    distance = distance_from_sample(pd.DataFrame([odd, along]), describe_sample(features))
    assert distance[0] > 1 > distance[1]


def test_the_middle_of_the_sample_is_near_and_distances_grow_away_from_it():
    features = draw(300)
    steps = pd.DataFrame([features.mean() + k * features.std() for k in (0, 1, 2, 4)])
    distance = distance_from_sample(steps, describe_sample(features))
    assert distance[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(distance) > 0).all()


def test_the_units_of_the_features_do_not_matter():
    features, others = draw(300), draw(50, seed=1)
    factor = np.array([1e4, 1e-3, 1.0])
    one = distance_from_sample(others, describe_sample(features))
    two = distance_from_sample(others * factor, describe_sample(features * factor))
    np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_value_is_as_far_as_can_be(infinite):
    features = draw(100)
    others = draw(3, seed=1)
    others.loc[1, "snr"] = infinite
    distance = distance_from_sample(others, describe_sample(features))
    assert np.isfinite(distance).tolist() == [True, False, True]
    assert distance[1] == np.inf


# --- not everything is measured of every object ---------------------------------------------------


def of_two_kinds(n, seed):
    """A sample that is nothing like a normal distribution: a few objects are far out in one."""
    features = draw(n, seed)
    rare = np.random.default_rng(seed + 100).random(n) < 0.04
    features.loc[rare, "w20"] += 3000
    return features


@pytest.mark.parametrize(
    "missing", [["snr"], ["w20"], ["a_flux", "snr"], ["w20", "a_flux"], ["snr", "w20"]]
)
def test_one_in_a_hundred_like_the_sample_is_beyond_the_limit_whatever_is_missing(missing):
    sample = describe_sample(of_two_kinds(10_000, 0))
    others = of_two_kinds(20_000, 1).assign(**dict.fromkeys(missing, np.nan))
    beyond = distance_from_sample(others, sample) > 1
    assert beyond.mean() == pytest.approx(0.01, abs=0.004)


def test_what_is_measured_tells_as_if_nothing_else_had_been_asked():
    features, others = draw(400), draw(50, seed=1)
    distance = distance_from_sample(others.assign(w20=np.nan), describe_sample(features))
    alone = distance_from_sample(others, describe_sample(features[["a_flux", "snr"]]))
    np.testing.assert_allclose(distance, alone, rtol=0.05)


def test_an_object_far_off_in_what_is_measured_is_noticed():
    features = draw(300)
    far = features.mean().to_frame().T.assign(w20=np.nan)
    far["snr"] += 8 * features["snr"].std()
    assert distance_from_sample(far, describe_sample(features))[0] > 1.5


def test_an_object_of_which_nothing_is_measured_is_neither_like_nor_unlike():
    others = draw(2, seed=1)
    others.loc[0] = np.nan
    distance = distance_from_sample(others, describe_sample(draw(100)))
    assert np.isnan(distance).tolist() == [True, False]


def test_more_features_than_can_be_described_are_an_error():
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 13)))
    with pytest.raises(ValueError, match="at most 12 features, got 13"):
        describe_sample(features)


def test_a_constant_feature_alone_is_no_obstacle():
    sample = describe_sample(draw(100).assign(w20=5.0))
    others = pd.DataFrame({"a_flux": np.nan, "snr": np.nan, "w20": [5.0, 9.0]})
    assert (distance_from_sample(others, sample) > 1).tolist() == [False, True]


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_rows_of_the_sample_with_missing_values_are_left_out(missing):
    features = draw(100)
    holes = pd.concat([features, draw(10, seed=3).assign(snr=missing)], ignore_index=True)
    assert describe_sample(holes) == describe_sample(features)


def test_a_constant_feature_is_no_obstacle():
    features = draw(100).assign(w20=5.0)
    sample = describe_sample(features)
    distance = distance_from_sample(features, sample)
    assert np.isfinite(distance).all()
    assert (distance > 1).mean() == pytest.approx(0.01, abs=0.005)
    odd = features.head(1).assign(w20=9.0)
    assert distance_from_sample(odd, sample)[0] > 1


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_complete_rows_are_an_error_that_says_how_many(n):
    features = pd.concat([draw(n), draw(3).assign(w20=np.nan)], ignore_index=True)
    with pytest.raises(ValueError, match=f"two complete rows to be described, got {n}"):
        describe_sample(features)


def test_two_rows_are_enough():
    assert np.isfinite(distance_from_sample(draw(2), describe_sample(draw(2)))).all()


def test_a_description_survives_being_written_as_json():
    features = draw(60)
    sample = describe_sample(features)
    again = json.loads(json.dumps(sample))
    assert again == sample
    np.testing.assert_array_equal(
        distance_from_sample(features, again), distance_from_sample(features, sample)
    )


def test_columns_are_found_by_name_whatever_their_order_and_company():
    features = draw(60)
    sample = describe_sample(features)
    shuffled = features.assign(other="text")[["w20", "other", "a_flux", "snr"]]
    np.testing.assert_array_equal(
        distance_from_sample(shuffled, sample), distance_from_sample(features, sample)
    )


def test_nobody_is_no_error():
    assert len(distance_from_sample(draw(5)[:0], describe_sample(draw(5)))) == 0
