import numpy as np
import pytest

from skyloom.images.cutouts import clip_background, remove_specks
from skyloom.images.selection import dark_on_white, inspect_cut_outs
from skyloom.simulate.radio_galaxies import draw_truth, observe


def empty(n=1, side=61):
    return np.zeros((n, side, side), np.float32)


def spot(row, column, brightness=10.0, half=2):
    image = empty()
    image[0, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = (
        brightness
    )
    return image


CASES = {
    "good": (spot(30, 30), "", ""),
    "nothing": (empty(), "no source", "no pixel above the noise"),
    "elsewhere": (spot(5, 5), "no source in the middle", "nothing within 20 pixels"),
    "faint": (spot(30, 30, 4.0), "too faint", "S/N 4.0"),
    "cut off": (spot(30, 30, half=30), "touches the edge", "cut off"),
    "neighbour": (spot(30, 30) + spot(5, 5, 30), "several sources", "75% of the light in others"),
    "faint neighbour": (spot(30, 30) + spot(5, 5, 5), "", ""),
    "neighbour at the edge": (spot(30, 30) + spot(1, 1, 5), "", ""),
    "two lobes": (spot(30, 15) + spot(30, 45), "", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said(case):
    image, reason, value = CASES[case]
    (row,) = inspect_cut_outs(image, np.ones(1), min_snr=5, radius=20).itertuples()
    assert (row.reason, row.value) == (reason, value)


def test_the_edge_is_that_of_the_data():
    """A source that ends where nothing was observed is cut off, wherever that is in the array."""
    image = spot(30, 30, half=6)
    observed = np.ones(image.shape, bool)
    observed[:, :, 37:] = False
    (beside,) = inspect_cut_outs(image, np.ones(1), observed, radius=20).itertuples()
    assert (beside.at_edge, beside.reason) == (True, "touches the edge")
    observed[:, :, 37] = True
    (away,) = inspect_cut_outs(image, np.ones(1), observed, radius=20).itertuples()
    assert (away.at_edge, away.reason) == (False, "")


def test_images_do_not_change_each_other():
    images = np.concatenate([image for image, *_ in CASES.values()])
    table = inspect_cut_outs(images, np.ones(len(images)), min_snr=5, radius=20)
    assert table["reason"].tolist() == [reason for _, reason, _ in CASES.values()]


def test_without_noise_nothing_is_too_faint():
    table = inspect_cut_outs(spot(30, 30, 1e-3), np.zeros(1))
    assert table["reason"].tolist() == [""]
    assert np.isnan(table["snr"][0])


def test_simulated_sources_pass_and_have_their_signal_to_noise_ratio():
    rng = np.random.default_rng(0)
    truth = draw_truth(100, rng, neighbour_rate=0.2)
    clipped, noise = clip_background(observe(truth, rng))
    table = inspect_cut_outs(remove_specks(clipped), noise)
    assert (table["reason"] == "").mean() > 0.9
    expected = truth["peak_flux"] / truth["noise"]
    good = table["reason"] == ""
    assert np.median(np.abs(table["snr"] / expected - 1)[good]) < 0.1


@pytest.mark.parametrize("levels", [(0, 255), (-0.3, 1.5), (0, 3)])
def test_pictures_of_sources_dark_on_white_are_told(levels):
    """Linear, with the noise visible, or saturated: 8 bits, upright and inverted."""
    rng = np.random.default_rng(0)
    observed = observe(draw_truth(40, rng), rng)
    low, high = levels
    pictures = np.rint(255 * np.clip((observed - low) / (high - low), 0, 1))
    if low == 0 and high == 255:
        peak = observed.max(axis=(1, 2), keepdims=True)
        pictures = np.rint(255 * np.clip(observed / peak, 0, 1))
    assert not dark_on_white(pictures).any()
    assert dark_on_white(255 - pictures).all()
    assert not dark_on_white(observed).any()
    clipped, noise = clip_background(255 - pictures)
    table = inspect_cut_outs(clipped, noise, inverted=dark_on_white(255 - pictures))
    assert set(table["reason"]) == {"dark on white"}
    assert set(table["value"]) == {"background at the maximum"}


def test_noise_and_missing_pixels_are_not_dark_on_white():
    noise = np.random.default_rng(0).normal(size=(200, 50, 50))
    noise[:, :10], noise[0] = np.nan, np.nan
    assert not dark_on_white(noise).any()
