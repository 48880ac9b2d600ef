import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom.images.cutouts import clip_background
from skyloom.images.moments import measure_images, measure_sources, moment_features
from skyloom.simulate.radio_galaxies import draw_truth, observe

SIDE = 81


def spots(*places, width=2.0):
    """Round spots: (x, y, brightness), pixels from the host."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    return sum(
        flux * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width**2)) for px, py, flux in places
    )[None]


def polar(radius, degrees):
    return radius * np.cos(np.radians(degrees)), radius * np.sin(np.radians(degrees))


# More strongly bent, the line across the long axis cuts into the lobes themselves.
@given(st.floats(0, 360), st.floats(1, 100), st.floats(12, 25), st.floats(12, 25))
def test_the_angle_between_two_lobes_is_measured_in_any_direction(axis, bending, near, far):
    first, second = polar(near, axis - bending / 2), polar(far, axis + 180 + bending / 2)
    (row,) = measure_sources(spots((*first, 1.0), (*second, 1.0)), pixel_scale=1).itertuples()
    assert row.bending_angle == pytest.approx(bending, abs=3)


@pytest.mark.parametrize("axis", [0, 30, 90, 150])
def test_a_round_gaussian_line_has_its_size_and_direction(axis):
    chain = [(*polar(r, axis), 1.0) for r in np.linspace(-15, 15, 61)]
    (row,) = measure_sources(spots(*chain), pixel_scale=1.8).itertuples()
    assert (row.position_angle - axis + 90) % 180 == pytest.approx(90, abs=0.5)
    assert row.minor == pytest.approx(2 * 1.8, rel=0.02)
    assert row.major == pytest.approx(1.8 * np.hypot(2, 30.5 / np.sqrt(12)), rel=0.02)


def test_the_brighter_arm_comes_first():
    images = np.concatenate([spots((20, 0, 3), (-10, 0, 1)), spots((20, 0, 1), (-10, 0, 3))])
    table = measure_sources(images, pixel_scale=1)
    np.testing.assert_allclose(table[["length_1", "length_2"]], [[20, 10], [10, 20]], atol=0.01)
    np.testing.assert_allclose(table["flux_ratio"], 1 / 3, rtol=1e-3)
    assert table["peak_flux"].tolist() == pytest.approx([3, 3])


def test_empty_and_one_sided_images_have_no_angle():
    one_sided = spots(*((x, 0, 1.0) for x in range(12, 30)))
    one_sided[:, :, : SIDE // 2 + 1] = 0
    table = measure_sources(np.concatenate([np.zeros((1, SIDE, SIDE)), one_sided]))
    assert table.iloc[0].isna().all()
    assert np.isnan(table["bending_angle"][1])
    assert table["major"][1] > 0


def test_bending_angles_of_simulated_sources_are_better_than_their_mean():
    rng = np.random.default_rng(0)
    truth = draw_truth(400, rng, neighbour_rate=0, offset=0, length_median=40)
    truth = truth[truth["class"] != "compact"]
    clipped, _ = clip_background(observe(truth, rng))
    measured = measure_sources(clipped[:, 25:-24, 25:-24])["bending_angle"]
    angle = truth["peak_bending_angle"].to_numpy()
    error = np.abs(measured - angle).median()
    assert error < 0.5 * np.abs(angle - angle.mean()).mean()


def test_moments_of_a_dark_image_are_missing_not_infinite():
    table = pd.DataFrame(
        {name: [1.0, 0.0, np.nan] for name in (
            "major", "minor", "concentration", "length_1", "length_ratio", "flux_ratio",
            "bending_angle")}
    ).assign(id=["a", "b", "c"])  # fmt: skip
    features = moment_features(table)
    assert not np.isinf(features).any(axis=None)
    assert features.loc["a"].notna().all()
    assert features.loc["c"].isna().all()


def test_an_image_is_measured_the_same_however_many_there_are():
    rng = np.random.default_rng(0)
    images = observe(draw_truth(70, rng), rng, size=48)
    together = measure_images(images)
    few = pd.concat([measure_images(part) for part in np.split(images, [8, 36])], ignore_index=True)
    pd.testing.assert_frame_equal(together, few)
    assert list(measure_images(images[:0])) == list(together)
