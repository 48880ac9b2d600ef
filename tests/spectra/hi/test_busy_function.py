import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import erf

from skyloom.spectra.hi.busy_function import (
    DERIVED_NAMES,
    _model_and_jacobian,
    busy_function,
    fit_busy_function,
    line_measures,
)

CHANNELS = 256
VELOCITY = np.linspace(-640, 640, CHANNELS)


def draw(n, seed=1, snr=(5, 50)):
    """Profiles of unit peak with horns, tilts and rounded ones among them; noise; parameters."""
    rng = np.random.default_rng(seed)
    half = rng.uniform(60, 250, n)
    steep = 10 ** rng.uniform(-2, -0.7, (2, n))
    depth = 10 ** rng.uniform(-2, 0.3, n)
    centre, trough = rng.normal(0, 10, n), rng.normal(0, 20, n)
    power = np.full(n, 3.0)
    parameters = np.stack(
        [np.ones(n), *steep, depth * half**-power, centre, trough, half, power], axis=1
    )
    velocity = np.tile(VELOCITY, (n, 1))
    parameters[:, 0] /= busy_function(velocity, parameters).max(1)
    noise = 1 / rng.uniform(*snr, n)
    model = busy_function(velocity, parameters)
    return velocity, model, model + noise[:, None] * rng.normal(size=model.shape), noise, parameters


def test_function_is_the_published_formula():
    a, b1, b2, c, xe, xp, w, n = 2.0, 0.05, 0.1, 1e-6, 10.0, -5.0, 100.0, 2.5
    x = VELOCITY
    expected = (
        a / 4 * (erf(b1 * (w + x - xe)) + 1) * (erf(b2 * (w - x + xe)) + 1)
        * (c * np.abs(x - xp) ** n + 1)
    )  # fmt: skip
    np.testing.assert_allclose(busy_function(x, np.array([a, b1, b2, c, xe, xp, w, n])), expected)


@pytest.mark.parametrize("channel", [3, 20, 31, 40, 55])
def test_jacobian_is_the_derivative_of_the_model(channel):
    x = np.linspace(-1, 1, 64)[None]
    theta = np.array([0.2, 2.0, 2.5, 0.7, 0.05, -0.1, -0.8, 3.1])
    error = check_grad(
        lambda t: _model_and_jacobian(x, t[None])[0][0, channel],
        lambda t: _model_and_jacobian(x, t[None])[1][0, :, channel],
        theta,
    )
    assert error < 1e-5


def test_fits_reach_the_chi_square_of_the_truth():
    velocity, model, flux, noise, _ = draw(300)
    fit = fit_busy_function(velocity, flux, noise)
    true_chi_square = (((flux - model) / noise[:, None]) ** 2).sum(1)
    assert (fit.status == "good").mean() > 0.98
    # Eight free parameters take about eight off the chi-square of the truth.
    assert np.median(fit.chi_square - true_chi_square) == pytest.approx(-7.3, abs=1.5)
    assert (fit.chi_square > true_chi_square + 15).mean() < 0.03


@pytest.mark.parametrize("name", DERIVED_NAMES)
def test_reported_errors_cover_the_truth(name):
    velocity, model, flux, noise, _ = draw(600, seed=2)
    fit = fit_busy_function(velocity, flux, noise)
    k = DERIVED_NAMES.index(name)
    good = fit.status == "good"
    deviation = (fit.derived[:, k] - line_measures(velocity, model)[:, k]) / fit.derived_errors[
        :, k
    ]
    assert np.mean(np.abs(deviation[good]) < 1) == pytest.approx(0.68, abs=0.06)
    assert abs(np.median(deviation[good])) < 0.25


def test_line_measures_of_a_box_are_exact():
    velocity = np.arange(0.0, 100.0)[None]
    model = np.where((velocity >= 30) & (velocity < 70), 2.0, 0.0)
    w50, w20, centroid, peak, flux, low, high = line_measures(velocity, model)[0]
    assert w50 == pytest.approx(40)
    assert w20 == pytest.approx(39 + 2 * 0.8)
    assert centroid == pytest.approx(49.5)
    assert (peak, flux) == (2.0, 80.0)
    assert (low + high) / 2 == pytest.approx(49.5)


def one_horn(contrast, side, width=500.0):
    """A flat line of unit height with a narrow horn at one end and a hint of one at the other."""
    velocity = np.arange(-600.0, 600.0, 4.0)
    rise, fall = (erf((velocity - sign * width / 2) / 10) for sign in (-1, 1))
    flux = (rise - fall) / 2
    for place, height in ((side, contrast - 1), (-side, 0.3)):
        flux += height * np.exp(-(((velocity - place * (width / 2 - 25)) / 12) ** 2))
    return velocity[None], flux[None]


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("contrast", [1.5, 2.5, 4.0, 6.0])
def test_widths_are_those_of_the_line_and_not_of_its_brighter_horn(contrast, side):
    w50, w20, *_, low, high = line_measures(*one_horn(contrast, side))[0]
    assert w50 == pytest.approx(500, rel=0.08)
    assert w20 == pytest.approx(500, rel=0.08)
    assert [low, high] == pytest.approx([-250, 250], abs=25)


@pytest.mark.parametrize("side", [-1, 1])
def test_width_of_a_fitted_line_with_one_bright_horn(side):
    velocity, flux = one_horn(4.0, side)
    flux = flux + np.random.default_rng(1).normal(0, 0.1, flux.shape)
    fit = fit_busy_function(velocity, flux, np.array([0.1]))
    w50, w20 = fit.derived[0, :2]
    assert w50 == pytest.approx(500, rel=0.15)
    assert w50 > w20 / 2


def test_edge_influence_predicts_how_the_edges_move_with_the_noise():
    velocity, _model, flux, noise, _ = draw(60, seed=3, snr=(60, 61))
    before = fit_busy_function(velocity, flux, noise)
    rng = np.random.default_rng(0)
    change = 0.2 * noise[:, None] * rng.normal(size=flux.shape)
    after = fit_busy_function(velocity, flux + change, noise)
    predicted = np.einsum("nkm,nm->nk", before.edge_influence, change)
    moved = after.derived[:, 5:] - before.derived[:, 5:]
    error = before.derived_errors[:, 5:]
    assert np.median(np.abs(moved / error)) > 0.08
    assert np.percentile(np.abs((predicted - moved) / error), 80) < 0.06


def test_masked_channels_are_not_used():
    velocity, _, flux, noise, _ = draw(20, seed=4)
    spoiled = flux.copy()
    flux[:, 10:20] = np.nan
    spoiled[:, 10:20] = 1e6
    spoiled = np.where(np.isnan(flux), np.nan, spoiled)
    fit = fit_busy_function(velocity, flux, noise)
    assert (fit.degrees_of_freedom == CHANNELS - 10 - 8).all()
    np.testing.assert_array_equal(fit.parameters, fit_busy_function(velocity, spoiled, noise)[0])


def test_result_does_not_depend_on_the_chunk():
    velocity, _, flux, noise, _ = draw(40, seed=5)
    whole = fit_busy_function(velocity, flux, noise, chunk=64)
    parts = fit_busy_function(velocity, flux, noise, chunk=7)
    np.testing.assert_allclose(whole.chi_square, parts.chi_square, rtol=1e-6)
    np.testing.assert_allclose(whole.derived, parts.derived, rtol=1e-4)


def test_scale_and_units_do_not_matter():
    velocity, _, flux, noise, _ = draw(30, seed=6)
    small = fit_busy_function(velocity, flux, noise)
    large = fit_busy_function(velocity * 3 + 9000, flux * 1e3, noise * 1e3)
    np.testing.assert_allclose(small.derived[:, 0] * 3, large.derived[:, 0], rtol=1e-3)
    np.testing.assert_allclose(small.chi_square, large.chi_square, rtol=1e-4)


def test_failed_fits_say_why():
    velocity, _, flux, _noise, _ = draw(3, seed=7)
    rng = np.random.default_rng(0)
    flux[0] = rng.normal(size=CHANNELS)  # no line
    flux[1] += 5 * np.sin(VELOCITY / 15)  # no busy function
    flux[2, : CHANNELS - 6] = np.nan  # six channels
    fit = fit_busy_function(velocity, flux, np.array([1.0, 0.05, 0.05]))
    assert fit.status[1] == "chi-square too large"
    assert fit.status[2] == "too few channels"
    assert fit.status[0] == "no line"


def test_no_profiles_give_an_empty_result():
    fit = fit_busy_function(np.zeros((0, 64)), np.zeros((0, 64)), np.zeros(0))
    assert fit.parameters.shape == (0, 8)
    assert fit.edge_influence.shape == (0, 2, 64)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((2, 64), (2, 63), (2,)), "shapes differ"), (((2, 64), (2, 64), (3,)), "shapes differ")],
)
def test_wrong_shapes_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        fit_busy_function(*(np.ones(shape) for shape in shapes))


def test_noise_must_be_positive():
    velocity, _, flux, _, _ = draw(2)
    with pytest.raises(ValueError, match=r"noise must be positive, got 0\.0"):
        fit_busy_function(velocity, flux, np.array([1.0, 0.0]))


def test_common_baseline_errors_are_in_the_derived_errors():
    velocity, _, flux, noise, _ = draw(20, seed=8)
    level = 0.02
    shape = np.full((20, 1, CHANNELS), level)
    plain = fit_busy_function(velocity, flux, noise)
    with_level = fit_busy_function(velocity, flux, noise, shape)
    k = DERIVED_NAMES.index("integrated_flux")
    added = np.sqrt(with_level.derived_errors[:, k] ** 2 - plain.derived_errors[:, k] ** 2)
    # A level under the line adds about level times width.
    np.testing.assert_allclose(np.median(added / (level * plain.derived[:, 1])), 1.0, atol=0.3)
