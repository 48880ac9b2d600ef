import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf
from scipy.stats import norm

from skyloom.raw_files import UnusableError
from skyloom.simulate.hi_profiles import draw_truth, observe
from skyloom.spectra.hi.asymmetry import (
    INDICES,
    SIGNED_MEASURES,
    a_flux_classes,
    asymmetry_table,
    folded_indices,
    folded_interval,
    measure_asymmetry,
    mirrored,
)
from skyloom.spectra.hi.busy_function import fit_busy_function
from skyloom.spectra.hi.preparation import baseline_error_shapes, prepare_profile
from skyloom.spectra.hi.readers import read_spectrum
from skyloom.spectra.hi.spectrum import Spectrum

VELOCITY = np.arange(0.0, 200.0)[None]
MEASURE = {name: k for k, name in enumerate(SIGNED_MEASURES)}


def boxes(left, right):
    """A line from 50 to 150 with constant flux on each side of 100 (edges between channels)."""
    flux = np.zeros_like(VELOCITY)
    flux[:, 50:100], flux[:, 100:150] = left, right
    return flux, np.array([49.5]), np.array([149.5])


def measure(name, *arguments):
    return measure_asymmetry(VELOCITY, *arguments)[0, MEASURE[name]]


def test_indices_of_two_boxes_are_those_of_their_definitions():
    arguments = boxes(2.0, 3.0)
    assert measure("ln_flux_ratio", *arguments) == pytest.approx(np.log(1.5))
    assert measure("channel_asymmetry", *arguments) == pytest.approx(0.2)
    # Half of the flux, 125, lies 25 / 3 channels above the middle.
    assert measure("equality_offset", *arguments) == pytest.approx(25 / 3, abs=0.05)
    table = folded_indices(measure_asymmetry(VELOCITY, *arguments), np.array([99.5]))
    assert table["a_flux"][0] == pytest.approx(1.5)
    assert table["lopsidedness"][0] == pytest.approx(0.2)
    assert table["equality_velocity"][0] == pytest.approx(99.5 + 25 / 3, abs=0.05)


def test_curve_of_growth_of_a_symmetric_box():
    arguments = boxes(2.0, 2.0)
    assert measure("ln_growth_flux_ratio", *arguments) == pytest.approx(0, abs=1e-6)
    assert measure("ln_growth_slope_ratio", *arguments) == pytest.approx(0, abs=1e-6)
    assert measure("concentration", *arguments) == pytest.approx(0.85 / 0.25, rel=1e-3)


def growth_channel_by_channel(velocity, flux, low, high, flat):
    """Curves of growth of one line as they are defined, without a thought for speed.

    Logarithms of the flux and slope ratios and the concentration; ``low`` and ``high`` are where
    the signal ends, wings included, and beyond them the curves are flat.
    """
    step = velocity[1] - velocity[0]
    signal = (velocity > low) & (velocity < high)
    centre = (velocity * flux)[signal].sum() / flux[signal].sum()
    distances = np.arange(0, high - low + flat, step / 10)

    def grown(sign):
        # Each channel counts with the part of it that lies between V_c and the distance.
        away = sign * (velocity - centre) / step
        reached = np.clip(distances[:, None] / step - away + 0.5, 0, 1)
        return (flux * (reached - np.clip(0.5 - away, 0, 1))).sum(1)

    blue, red = grown(-1), grown(1)
    blue_end, red_end = centre - low, high - centre
    totals = [
        np.median(curve[(distances >= end) & (distances <= end + flat)])
        for curve, end in ((blue, blue_end), (red, red_end))
    ]
    v25, v85 = (distances[np.argmax(blue + red >= share * sum(totals))] for share in (0.25, 0.85))
    rising = distances <= v85
    slopes = [np.polyfit(distances[rising], curve[rising], 1)[0] for curve in (blue, red)]
    return np.log(totals[1] / totals[0]), np.log(slopes[1] / slopes[0]), v85 / v25


GROWTH = ("ln_growth_flux_ratio", "ln_growth_slope_ratio", "concentration")


@pytest.mark.parametrize("seed", range(12))
def test_curves_of_growth_are_those_of_their_definition(seed):
    rng = np.random.default_rng(seed)
    width = rng.uniform(50, 90)
    low, high = 100 - width / 2 + rng.uniform(-5, 5), 100 + width / 2
    inside = erf((VELOCITY - low) / 4) - erf((VELOCITY - high) / 4)
    flux = inside * (1 + rng.uniform(-0.5, 0.5) * (VELOCITY - 100) / 50)
    flux += rng.uniform(0, 0.3) * np.exp(-(((VELOCITY - high) / 15) ** 2))
    wing = 0.2 * (high - low)
    expected = growth_channel_by_channel(
        VELOCITY[0], flux[0], low - wing, high + wing, (high - low) / 3
    )
    for name, value in zip(GROWTH, expected, strict=True):
        found = measure(name, flux, np.array([low]), np.array([high]))
        assert found == pytest.approx(value, rel=0.015, abs=0.02), name


def test_wings_count_as_far_as_flux_was_found_and_no_farther_than_half_the_width():
    flux, low, high = np.zeros_like(VELOCITY), np.array([89.5]), np.array([129.5])
    flux[:, 90:130], flux[:, 130:146] = 2.0, 0.5  # a wing of two fifths of the width
    flux[:, 20:50] = 1.0  # another galaxy, a width away
    window = np.array([[19.5, 145.5]])
    measured = measure_asymmetry(VELOCITY, flux, low, high, window)[0]
    expected = growth_channel_by_channel(VELOCITY[0], flux[0], 89.5 - 20, 145.5, 40 / 3)
    for name, value in zip(GROWTH, expected, strict=True):
        assert measured[MEASURE[name]] == pytest.approx(value, abs=0.02), name
    assert measured[0] == measure("ln_flux_ratio", flux, low, high)


def test_curves_of_growth_of_real_spectra_agree_with_their_definition(real_observations, root):
    settings = yaml.safe_load((root / "conf/real/hi_profiles/parameters.yml").read_text())
    settings = settings["hi_profiles"]["ingestion"]
    names = ("resolution", "min_snr", "min_contrast", "min_edge_steepness", "masked_velocities")
    pulls = []
    for path in sorted((real_observations / "gbt").glob("*.fits")):
        try:
            spectrum = read_spectrum(path.name, path.read_bytes())
            profile = prepare_profile(spectrum, **{name: settings[name] for name in names})
        except UnusableError:
            continue
        m = len(profile.flux)
        velocity = (profile.velocity_start + profile.channel_width * np.arange(m))[None]
        shapes = baseline_error_shapes(
            velocity,
            *(np.array([x]) for x in (
                profile.line_centre, profile.line_width,
                profile.baseline_level_error, profile.baseline_slope_error,
            )),
        )  # fmt: skip
        noise = np.array([profile.noise])
        fit = fit_busy_function(velocity, profile.flux[None], noise, shapes)
        if fit.status[0] != "good":
            continue
        table = asymmetry_table(
            velocity, profile.flux[None], noise, fit, np.random.default_rng(0), shapes
        ).iloc[0]
        low, high = fit.derived[0, 5:]
        wing = 0.2 * (high - low)
        flux = np.where(np.isfinite(profile.flux), profile.flux, fit.model[0])
        growth = growth_channel_by_channel(
            velocity[0], flux, low - wing, high + wing, (high - low) / 3
        )
        a_f, a_c = np.exp(np.abs(growth[:2]))
        for name, value in (("a_f", a_f), ("a_c", a_c), ("c_v", growth[2])):
            pulls.append((value - table[f"{name}_measured"]) / table[f"{name}_error"])
    assert len(pulls) > 60
    assert np.quantile(np.abs(pulls), 0.95) < 1


def test_equal_fluxes_may_hide_unequal_sides():
    flux, low, high = boxes(0.0, 0.0)
    flux[:, 50:75], flux[:, 100:125] = 4.0, 4.0
    assert measure("ln_flux_ratio", flux, low, high) == pytest.approx(0, abs=1e-9)
    assert measure("channel_asymmetry", flux, low, high) == pytest.approx(1.0)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), low=st.floats(10.0, 80.0), high=st.floats(110.0, 190.0))
def test_mirroring_a_profile_changes_signs_and_nothing_else(seed, low, high):
    flux = np.random.default_rng(seed).uniform(0.5, 2.0, VELOCITY.shape)
    edges = np.array([low]), np.array([high])
    mirrored = 199.0 - edges[1], 199.0 - edges[0]
    one = measure_asymmetry(VELOCITY, flux, *edges)[0]
    other = measure_asymmetry(VELOCITY, flux[:, ::-1], *mirrored)[0]
    signs = np.array([-1, 1, -1, -1, 1, -1])
    np.testing.assert_allclose(one, signs * other, rtol=1e-3, atol=5e-2)


# --- mirrored -------------------------------------------------------------------------------------


def exchange(flux, centre, start=0.0, width=1.0):
    one = np.ones(len(flux))
    return mirrored(flux, start * one, width * one, centre * one)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), twice_the_centre=st.integers(60, 140))
def test_mirrored_twice_is_the_profile_away_from_the_ends(seed, twice_the_centre):
    # About a channel or the middle between two, nothing is interpolated.
    flux = np.random.default_rng(seed).normal(size=(3, 100))
    centre = twice_the_centre / 2
    again = exchange(exchange(flux, centre), centre)
    reach = int(min(centre, 99 - centre)) - 2
    kept = slice(int(centre) - reach, int(centre) + reach)
    np.testing.assert_allclose(again[:, kept], flux[:, kept], atol=1e-12)


@settings(max_examples=40)
@given(
    centre=st.floats(40.0, 60.0),
    start=st.floats(-3000.0, 3000.0),
    width=st.floats(1.0, 10.0),
    smoothness=st.floats(8.0, 20.0),
)
def test_a_symmetric_profile_stays_as_it_is(centre, start, width, smoothness):
    flux = np.exp(-(((np.arange(100.0) - centre) / smoothness) ** 2))[None]
    other = exchange(flux, start + centre * width, start, width)
    near = np.abs(np.arange(100) - centre) < 35
    np.testing.assert_allclose(other[:, near], flux[:, near], atol=0.01)


@pytest.mark.parametrize("centre", [49.5, 31.0])
def test_a_channel_goes_to_the_other_side(centre):
    flux = np.zeros((1, 100))
    flux[0, 20] = 1.0
    expected = np.zeros(100)
    expected[int(2 * centre - 20)] = 1.0
    np.testing.assert_array_equal(exchange(flux, centre)[0], expected)


@pytest.mark.parametrize("n_channels", [64, 65])
def test_about_the_middle_of_its_channels_it_is_the_profile_backwards(n_channels):
    flux = np.random.default_rng(0).normal(size=(2, n_channels))
    result = exchange(flux, (n_channels - 1) / 2)
    np.testing.assert_allclose(result, flux[:, ::-1], atol=1e-12)


def test_between_channels_the_flux_is_shared():
    flux = np.zeros((1, 100))
    flux[0, 40] = 1.0
    result = exchange(flux, 50.125)[0]  # to channel 60.25
    assert result[[60, 61]] == pytest.approx([0.75, 0.25])
    assert result.sum() == pytest.approx(1)


def test_each_profile_has_its_own_channels_and_middle():
    flux = np.zeros((2, 50))
    flux[:, 10] = 1.0
    both = mirrored(flux, np.array([0.0, 1000.0]), np.array([1.0, 5.0]), np.array([20.0, 1100.0]))
    assert both.argmax(axis=1).tolist() == [30, 30]


def test_beyond_the_channels_there_is_nothing():
    result = exchange(np.ones((1, 100)), 20.0)[0]
    np.testing.assert_array_equal(result, np.arange(100) <= 40)


@settings(max_examples=40)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 10_000))
def test_the_flux_scale_does_not_matter(scale, seed):
    flux = np.random.default_rng(seed).uniform(0.5, 2.0, VELOCITY.shape)
    edges = np.array([33.3]), np.array([166.6])
    one = measure_asymmetry(VELOCITY, flux, *edges)
    np.testing.assert_allclose(one, measure_asymmetry(VELOCITY, scale * flux, *edges), atol=1e-7)


def test_edges_between_channels_move_the_measures_smoothly():
    flux, low, high = boxes(2.0, 3.0)
    values = [measure("ln_flux_ratio", flux, low, high + d) for d in np.linspace(-3, 0, 31)]
    assert np.abs(np.diff(values, 2)).max() < 2e-3


def test_a_line_without_flux_or_edges_has_no_asymmetry():
    flux, low, high = boxes(0.0, 0.0)
    assert np.isnan(measure_asymmetry(VELOCITY, flux, low, high)).all()
    flux, low, high = boxes(1.0, 1.0)
    assert np.isnan(measure_asymmetry(VELOCITY, flux, low * np.nan, high)).all()


@pytest.mark.parametrize("truth", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_folded_interval_covers_every_truth_equally(truth):
    value = np.abs(truth + np.random.default_rng(1).normal(size=20_000))
    low, high = folded_interval(value, np.ones_like(value))
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.683, abs=0.025)


@pytest.fixture(scope="module")
def measured_sample():
    """Simulated spectra through preparation, fit and asymmetry, with their truth."""
    truth = draw_truth(1500, np.random.default_rng(5))
    profiles, kept = [], []
    for row, parameters in truth.iterrows():
        velocity, flux = observe(parameters, np.random.default_rng([7, row]))
        try:
            profiles.append(prepare_profile(Spectrum(velocity, flux), resolution=5.0))
        except UnusableError:
            continue
        kept.append(row)
    flux = np.full((len(profiles), 256), np.nan)
    for row, profile in zip(flux, profiles, strict=True):
        row[: len(profile.flux)] = profile.flux
    column = {
        name: np.array([getattr(p, name) for p in profiles])
        for name in profiles[0]._fields
        if name != "flux"
    }
    velocity = column["velocity_start"][:, None] + column["channel_width"][:, None] * np.arange(256)
    baseline = baseline_error_shapes(
        velocity,
        column["line_centre"],
        column["line_width"],
        column["baseline_level_error"],
        column["baseline_slope_error"],
    )
    fit = fit_busy_function(velocity, flux, column["noise"], baseline)
    window = np.stack([column["window_low"], column["window_high"]], axis=1)
    table = asymmetry_table(
        velocity, flux, column["noise"], fit, np.random.default_rng(1), baseline, window
    )
    truth = truth.loc[kept].reset_index(drop=True)
    return table, truth, (fit.status == "good") & (truth["snr"] > 10).to_numpy()


@pytest.mark.parametrize("name", INDICES)
def test_intervals_cover_the_simulated_truth(measured_sample, name):
    table, truth, bright = measured_sample
    used = bright & table[name].notna().to_numpy()
    assert used.sum() > 1300
    inside = (table[f"{name}_low"] <= truth[name]) & (truth[name] <= table[f"{name}_high"])
    assert inside[used].mean() == pytest.approx(0.68, abs=0.05)


def test_noise_does_not_make_symmetric_lines_lopsided(measured_sample):
    table, truth, bright = measured_sample
    symmetric = bright & (truth["a_flux"] < 1.02) & (truth["snr"] < 40)
    assert symmetric.sum() > 30
    naive = np.exp(table["ln_flux_ratio"].abs())[symmetric].mean()
    assert table["a_flux"][symmetric].mean() - 1 < 0.75 * (naive - 1)
    # Of the channel index, half of an error is left below S/N 25, and hardly anything above.
    for low, high, limit in ((10, 25, 0.6), (25, 400, 0.2)):
        chosen = bright & truth["snr"].between(low, high)
        bias = (table["channel_asymmetry"] - truth["channel_asymmetry"])[chosen]
        assert abs(bias.mean()) < limit * table["channel_asymmetry_error"][chosen].mean()


def test_measured_values_stand_beside_those_without_the_bias_of_the_noise(measured_sample):
    table, _, bright = measured_sample
    ratio = np.exp(table["ln_flux_ratio"].abs())
    np.testing.assert_allclose(table["a_flux_measured"], ratio)
    for name in ("a_flux", "lopsidedness", "channel_asymmetry", "a_f", "a_c"):
        assert (table[f"{name}_measured"] >= table[name])[bright].mean() > 0.97, name
    shift = (table["c_v_measured"] - table["c_v"]).abs()
    assert (shift < table["c_v_error"])[bright].mean() > 0.9


@pytest.mark.parametrize("gap", [(0.05, 0.15), (0.2, 0.3)])
def test_intervals_cover_the_truth_of_lines_with_gaps(gap):
    truth = draw_truth(160, np.random.default_rng(8), snr_median=40.0, channel_width=8.0,
                       interference_fraction=0.0, ripple=0.0)  # fmt: skip
    velocity, flux, noise = [], [], []
    for row, line in truth.iterrows():
        rng = np.random.default_rng([3, row])
        v, y = observe(line, rng)
        near = np.argmin(np.abs(v - line["mid_velocity"])) + np.arange(-60, 60)
        v, y = v[near], y[near]
        width = rng.uniform(*gap) * line["w20"]
        centre = line["mid_velocity"] + rng.uniform(-0.5, 0.5) * (line["w20"] - width)
        y[np.abs(v - centre) < width / 2] = np.nan
        velocity.append(v)
        flux.append(y)
        noise.append(line["noise"])
    velocity, flux, noise = np.array(velocity), np.array(flux), np.array(noise)
    fit = fit_busy_function(velocity, flux, noise)
    table = asymmetry_table(velocity, flux, noise, fit, np.random.default_rng(1))
    good = fit.status == "good"
    assert good.sum() > 140
    for name in ("a_flux", "a_f", "a_c"):
        inside = (table[f"{name}_low"] <= truth[name]) & (truth[name] <= table[f"{name}_high"])
        assert inside[good].mean() == pytest.approx(0.68, abs=0.12), name


def test_the_same_seed_gives_the_same_errors():
    truth = draw_truth(6, np.random.default_rng(3), snr_median=60.0)
    velocity, flux = (np.stack(x) for x in zip(
        *(observe(row, np.random.default_rng(i)) for i, row in truth.iterrows()), strict=True
    ))  # fmt: skip
    noise = truth["noise"].to_numpy()
    fit = fit_busy_function(velocity, flux, noise)
    one, two = (
        asymmetry_table(velocity, flux, noise, fit, np.random.default_rng(9)) for _ in range(2)
    )
    np.testing.assert_array_equal(one.to_numpy(), two.to_numpy())


# --- classes by A_flux ----------------------------------------------------------------------------

EDGES = (1.13, 1.26)


def test_a_certain_a_flux_falls_into_its_class_on_either_side():
    x = np.log([1.0, 1.05, 1.2, 1.5, 9.0])
    for sign in (1, -1):
        classes, probability = a_flux_classes(sign * x, np.full(5, 1e-6), EDGES)
        assert classes.tolist() == [0, 0, 1, 2, 2]
        np.testing.assert_allclose(probability, 1)


def test_probability_of_the_middle_class_is_that_of_the_gaussian():
    x, error = 0.17, 0.08
    low, high = np.log(EDGES)
    inside = norm(x, error)
    expected = (inside.cdf(high) - inside.cdf(low)) + (inside.cdf(-low) - inside.cdf(-high))
    for sign in (1, -1):
        classes, probability = a_flux_classes(np.array([sign * x]), np.array([error]), EDGES)
        assert classes[0] == 1
        assert probability[0] == pytest.approx(expected)


def test_a_value_on_an_edge_belongs_to_both_sides_alike():
    _, probability = a_flux_classes(np.log([1.26]), np.array([0.005]), EDGES)
    assert probability[0] == pytest.approx(0.5, abs=1e-6)


def test_a_vanishing_error_is_no_division_by_zero():
    classes, probability = a_flux_classes(np.log([1.2]), np.array([0.0]), EDGES)
    assert (classes[0], probability[0]) == (1, 1.0)


def test_probabilities_are_as_often_right_as_they_say():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1.5, 1.5, 60000)  # the flat prior that a probability implies
    error = rng.uniform(0.02, 0.2, len(truth))
    measured = truth + error * rng.normal(size=len(truth))
    classes, probability = a_flux_classes(measured, error, EDGES)
    right = classes == np.digitize(np.abs(truth), np.log(EDGES))
    inner = np.abs(measured) < 0.5
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95)):
        chosen = inner & (probability > low) & (probability < high)
        assert chosen.sum() > 500
        assert right[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=0.03)
