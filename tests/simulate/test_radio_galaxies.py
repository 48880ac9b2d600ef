import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from skyloom.images.moments import measure_images
from skyloom.simulate.radio_galaxies import (
    CLASSES,
    N_NEIGHBOURS,
    components,
    draw_truth,
    fit_distributions,
    observe,
    to_hdu,
)

BEAM = 5.4 / np.sqrt(8 * np.log(2))  # sigma, arcsec
ALONE = {f"neighbour_flux_{k}": 0.0 for k in range(1, N_NEIGHBOURS + 1)}
CLEAN = {"noise": 0.0, "stripe_amplitude": 0.0}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def truth():
    return draw_truth(600, rng())


def of(truth, kind):
    return truth[truth["class"] == kind]


def ends(truth):
    """Outermost Gaussians of both arms, from the host."""
    x, y, _, _ = components(truth)
    place = np.stack([x - x[:, :1], y - y[:, :1]], axis=-1)[:, 1:-N_NEIGHBOURS]
    half = place.shape[1] // 2
    return place[:, half - 1], place[:, -1]


def opening(first, second):
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1)
    return np.degrees(np.arccos(cosine / np.linalg.norm(second, axis=1)))


# --- what is drawn --------------------------------------------------------------------------------


def test_classes_have_their_shares():
    counts = draw_truth(200, rng(), class_shares=(4, 3, 2, 1))["class"].value_counts()
    assert counts[list(CLASSES)].tolist() == [80, 60, 40, 20]


def test_bent_sources_are_bent_and_the_others_are_not(truth):
    assert of(truth, "bent")["bending_angle"].between(35, 130).all()
    assert set(of(truth, "bent")["fr_type"]) == {"FRI", "FRII"}
    straight = truth[truth["class"].isin(["FRI", "FRII"])]
    assert (straight["bending_angle"] < 17.5).all()
    assert (straight["fr_type"] == straight["class"]).all()
    assert (
        (of(truth, "compact")[["bending_angle", "length_1", "flux_1", "flux_2"]] == 0)
        .to_numpy()
        .all()
    )


def test_the_fanaroff_riley_type_is_where_the_arms_are_brightest(truth):
    _, _, flux, _ = components(truth)
    arm = flux[:, 1 : 1 + (flux.shape[1] - 1 - N_NEIGHBOURS) // 2]
    brightest = (arm.argmax(axis=1) + 0.5) / arm.shape[1]
    assert (brightest[truth["fr_type"] == "FRI"] < 0.5).all()
    assert (brightest[truth["fr_type"] == "FRII"] > 0.5).all()


def test_position_angles_are_uniform(truth):
    assert kstest(truth["position_angle"] / 360, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("column", "median", "option"),
    [("length_1", 40.0, "length_median"), ("width_outer", 5.0, "width_median")],
)
def test_distributions_are_parameters(column, median, option):
    drawn = draw_truth(800, rng(), **{option: median})
    assert np.median(drawn.loc[drawn["class"] != "compact", column]) == pytest.approx(median, 0.1)


def test_the_bending_angle_is_what_the_lines_to_the_ends_lack_of_a_half_turn(truth):
    extended = truth[truth["class"] != "compact"].assign(curvature=0.0)  # straight arms
    measured = 180 - opening(*ends(extended))
    np.testing.assert_allclose(measured, extended["bending_angle"], atol=1e-4)


def test_curved_arms_leave_along_the_axis_and_are_less_bent_at_their_peaks(truth):
    bent = of(truth, "bent").assign(curvature=1.0, length_1=1000.0, length_2=1000.0)
    x, y, _, _ = components(bent)
    axis = np.radians(bent["position_angle"])
    direction = np.stack([np.cos(axis), np.sin(axis)], axis=1)
    first = np.stack([x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]], axis=1)
    assert (opening(first, direction) < 4).all()
    curved = of(truth, "bent").query("curvature > 0.5")
    assert (curved["peak_bending_angle"] < curved["bending_angle"]).all()


def test_unrelated_sources_are_as_many_as_asked_for():
    drawn = draw_truth(2000, rng(), neighbour_rate=0.5)
    number = sum((drawn[f"neighbour_flux_{k}"] > 0).to_numpy() for k in range(1, 4))
    assert number.mean() == pytest.approx(0.5, abs=0.06)
    assert (draw_truth(20, rng(), neighbour_rate=0)[list(ALONE)] == 0).to_numpy().all()


# --- what is seen ---------------------------------------------------------------------------------


def test_an_image_is_the_sum_of_its_gaussians_seen_by_the_beam(truth):
    row = of(truth, "bent").iloc[[0]].assign(**CLEAN)
    (image,) = observe(row, rng(), size=61)
    place = (np.arange(61) - 30) * 1.8
    expected = np.zeros((61, 61))
    for x, y, flux, sigma in zip(*(part[0] for part in components(row)), strict=True):
        variance = sigma**2 + BEAM**2
        squared = (place[:, None] - y) ** 2 + (place - x) ** 2
        expected += flux * BEAM**2 / variance * np.exp(-squared / (2 * variance))
    np.testing.assert_allclose(image, expected, atol=1e-4 * expected.max())


def test_the_flux_of_an_image_is_that_of_its_parts(truth):
    alone = truth.assign(**CLEAN, **ALONE).iloc[:40]
    images = observe(alone, rng(), size=301)
    beam_area = 2 * np.pi * BEAM**2 / 1.8**2
    total = alone[["core_flux", "flux_1", "flux_2"]].sum(axis=1)
    np.testing.assert_allclose(images.sum((1, 2)) / beam_area, total, rtol=2e-3)


def test_the_peak_is_as_bright_as_recorded(truth):
    alone = truth.iloc[:150].assign(**CLEAN, **ALONE, x=0.0, y=0.0)
    peak = observe(alone, rng(), pixel_scale=0.9, size=201).max((1, 2))
    np.testing.assert_allclose(peak, alone["peak_flux"], rtol=0.05)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_another_position_angle_turns_the_image(truth, quarters):
    alone = truth.iloc[:20].assign(**CLEAN, **ALONE, x=0.0, y=0.0)
    turned = alone.assign(position_angle=alone["position_angle"] + 90 * quarters)
    # Rows are y and go up: towards y from x is the other way round for NumPy.
    expected = np.rot90(observe(alone, rng(), size=41), -quarters, axes=(1, 2))
    np.testing.assert_allclose(observe(turned, rng(), size=41), expected, atol=2e-3)


def test_noise_has_its_level_everywhere_and_the_size_of_the_beam():
    empty = draw_truth(300, rng(), noise=0.15).assign(stripe_amplitude=0.0, **ALONE)
    images = observe(empty.assign(core_flux=0.0, flux_1=0.0, flux_2=0.0), rng(1), size=60)
    assert images.std() == pytest.approx(0.15, rel=0.02)
    for part in (images[:, :3], images[:, :, -3:], images[:, 30, 30]):
        assert part.std() == pytest.approx(0.15, rel=0.1)
    neighbours = np.corrcoef(images[:, :, :-1].ravel(), images[:, :, 1:].ravel())[0, 1]
    # Noise smoothed by a Gaussian is correlated as one that is wider by the root of two.
    assert neighbours == pytest.approx(np.exp(-(1.8**2) / (4 * BEAM**2)), abs=0.01)


def test_stripes_are_plane_waves_of_their_length_and_angle(truth):
    dark = {"core_flux": 0.0, "flux_1": 0.0, "flux_2": 0.0, **ALONE}
    row = truth.iloc[[0]].assign(noise=0.0, stripe_amplitude=2.0, stripe_length=36.0, **dark)
    (image,) = observe(row.assign(stripe_angle=0.0, stripe_phase=0.0), rng(), size=41)
    expected = 2 * np.cos(2 * np.pi * (np.arange(41) - 20) * 1.8 / 36)
    np.testing.assert_allclose(image, np.broadcast_to(expected, (41, 41)), atol=1e-4)
    (upright,) = observe(row.assign(stripe_angle=90.0, stripe_phase=0.0), rng(), size=41)
    np.testing.assert_allclose(upright, image.T, atol=1e-4)


@given(size=st.integers(8, 40), chunk=st.integers(1, 9))
def test_images_are_the_same_however_many_are_made_at_a_time(size, chunk):
    few = draw_truth(7, rng(3))
    images = observe(few, rng(5), size=size, chunk=chunk)
    assert images.shape == (7, size, size)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, observe(few, rng(5), size=size), atol=1e-3)


def test_the_same_seed_gives_the_same_sample():
    first, second = (draw_truth(30, rng(4)) for _ in range(2))
    assert first.equals(second)
    assert not draw_truth(30, rng(5)).equals(first)


# --- distributions --------------------------------------------------------------------------------


@pytest.mark.parametrize("beam_fwhm", [5.4, 10.0])
def test_distributions_are_recovered_from_images(beam_fwhm):
    values = {"length_median": 38.0, "length_scatter": 0.25, "width_median": 3.4,
              "snr_median": 120.0, "snr_scatter": 0.5}  # fmt: skip
    fixed = {
        "class_shares": (1, 1, 0, 0), "neighbour_rate": 0.0, "offset": 0.5, "beam_fwhm": beam_fwhm
    }  # fmt: skip
    truth = draw_truth(800, rng(7), **fixed, **values)
    images = observe(truth, rng(8), size=100, beam_fwhm=beam_fwhm)
    fitted = fit_distributions(
        measure_images(images), rng(9), size=100, n_simulated=500, n_iterations=5, **fixed
    )
    # A beam that is wider than the arms hides their width.
    close = 0.1 if beam_fwhm < 6 else 0.15
    for name in ("length_median", "width_median", "snr_median"):
        assert fitted[name] == pytest.approx(values[name], rel=close), name
    for name in ("length_scatter", "snr_scatter"):
        assert fitted[name] == pytest.approx(values[name], rel=0.25), name


def test_pictures_without_noise_leave_the_signal_to_noise_ratio_alone():
    images = observe(
        draw_truth(100, rng(), class_shares=(1, 1, 0, 0)).assign(**CLEAN), rng(), size=60
    )
    images[images < 1e-3] = 0
    measured = measure_images(images).assign(snr=np.nan)
    fitted = fit_distributions(measured, rng(), size=60, n_simulated=100, n_iterations=1)
    assert "length_median" in fitted
    assert "snr_median" not in fitted


def test_too_few_sources_are_an_error_that_says_how_many():
    images = observe(draw_truth(3, rng(), class_shares=(1, 1, 0, 0)), rng(), size=60)
    with pytest.raises(ValueError, match=r"need 10 measured sources at least, not [0-3]"):
        fit_distributions(measure_images(images), rng())


def test_a_cut_out_is_in_jansky_with_the_host_at_its_centre(truth):
    row = truth.iloc[0]
    hdu = to_hdu(row, np.full((150, 150), 2.0), pixel_scale=1.8)
    assert hdu.header["BUNIT"] == "JY/BEAM"
    assert hdu.data.max() == pytest.approx(0.002)
    wcs = WCS(hdu.header)
    ra, dec = wcs.all_pix2world(74.5, 74.5, 0)
    assert (float(ra), float(dec)) == pytest.approx((180.0, 30.0))
    further_east, _ = wcs.all_pix2world(73.5, 74.5, 0)
    assert further_east > ra
    np.testing.assert_allclose(np.abs(wcs.wcs.cdelt) * 3600, 1.8)
