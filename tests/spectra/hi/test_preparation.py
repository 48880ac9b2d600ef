"""From spectra to line profiles: injected truth is recovered, and bad spectra are refused."""

import re

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy.special import erf

from skyloom.raw_files import UnusableError
from skyloom.spectra.hi.preparation import baseline_error_shapes, prepare_profile
from skyloom.spectra.hi.spectrum import Spectrum

VELOCITY = 2000 + 5.0 * np.arange(600)
NOISE = 2.0


def line(velocity, centre=3500.0, width=300.0, height=20.0):
    """A flat-topped line of the flux width * height with soft edges."""
    edges = [(velocity - centre + sign * width / 2) / 15 for sign in (1, -1)]
    return height * (erf(edges[0]) - erf(edges[1])) / 2


def baseline(velocity):
    """A cubic of some 30 mJy over the band."""
    return Polynomial([10, 15, -12, 8], domain=velocity[[0, -1]])(velocity)


def noisy(signal, seed=1, noise=NOISE):
    return signal + np.random.default_rng(seed).normal(0, noise, len(signal))


def prepare(flux, velocity=VELOCITY, axis="velocity", **settings):
    return prepare_profile(Spectrum(velocity, flux, axis), **{"resolution": 5.0} | settings)


def velocities(profile):
    return profile.velocity_start + profile.channel_width * np.arange(len(profile.flux))


def flux_and_error(profile):
    """Integrated flux over the line with a margin for its soft edges, and its error, mJy km/s."""
    near = np.abs(velocities(profile) - profile.line_centre) < profile.line_width / 2 + 40
    error = np.hypot(profile.noise * np.sqrt(near.sum()), profile.baseline_level_error * near.sum())
    return np.nansum(profile.flux[near]) * profile.channel_width, error * profile.channel_width


def refusal(flux, velocity=VELOCITY, axis="velocity", **settings):
    with pytest.raises(UnusableError) as caught:
        prepare(flux, velocity, axis, **settings)
    assert caught.value.value
    return caught.value.reason


# --- recovery ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("centre", "width", "height"),
    [(3500, 300, 20), (2900, 150, 10), (4100, 450, 15), (3300, 60, 40), (3500, 300, 200)],
)
def test_injected_line_is_recovered(centre, width, height):
    noise, snr, pulls = [], [], []
    for seed in range(12):
        profile = prepare(noisy(baseline(VELOCITY) + line(VELOCITY, centre, width, height), seed))
        assert profile.line_centre == pytest.approx(centre, abs=20)
        assert profile.line_width == pytest.approx(width, rel=0.12, abs=20)
        assert profile.channel_width == pytest.approx(5)
        found, error = flux_and_error(profile)
        assert error < 0.15 * width * height
        noise.append(profile.noise)
        snr.append(profile.snr)
        pulls.append((found - width * height) / error)
    assert np.mean(noise) == pytest.approx(NOISE, rel=0.08)
    assert np.mean(snr) == pytest.approx(height * np.sqrt(width / 5) / NOISE, rel=0.2)
    assert np.abs(pulls).max() < 4
    assert abs(np.mean(pulls)) < 1


def test_profile_is_the_line_without_the_baseline():
    profile = prepare(noisy(baseline(VELOCITY) + line(VELOCITY), noise=0.01))
    v = velocities(profile)
    np.testing.assert_allclose(profile.flux, line(v), atol=0.15)
    assert v[0] < 3300
    assert v[-1] > 3700
    np.testing.assert_allclose(v, VELOCITY[np.isin(VELOCITY, v.round(6))], atol=1e-6)


@pytest.mark.parametrize("k", [2, 4, 8])
def test_averaging_keeps_flux_and_lowers_the_noise(k):
    fine = np.arange(2000, 5000, 5 / 4)
    flux = noisy(line(fine), seed=k)
    profile = prepare(flux, fine, resolution=k * 5 / 4, max_channels=1024)
    assert profile.channel_width == pytest.approx(k * 5 / 4)
    assert profile.noise == pytest.approx(NOISE / np.sqrt(k), rel=0.12)
    found, error = flux_and_error(profile)
    assert abs(found - 6000) < 4 * error
    assert profile.line_centre == pytest.approx(3500, abs=10)


def test_channels_coarser_than_the_resolution_are_left():
    assert prepare(noisy(line(VELOCITY)), resolution=1.0).channel_width == pytest.approx(5)


def test_long_profiles_are_averaged_to_the_maximum():
    flux = noisy(line(VELOCITY, width=500))
    long, short = prepare(flux, max_channels=400), prepare(flux, max_channels=64)
    k = round(short.channel_width / long.channel_width)
    assert k > 1
    assert len(short.flux) <= 64 < len(long.flux)
    assert short.noise == pytest.approx(long.noise / np.sqrt(k))
    assert flux_and_error(short)[0] == pytest.approx(500 * 20, rel=0.05)


def test_uneven_steps_of_a_frequency_axis_are_taken():
    frequency = np.linspace(1395, 1410, 600)
    velocity = 299792.458 * (1420.405751768 / frequency[::-1] - 1)
    centre = velocity.mean()
    profile = prepare(noisy(line(velocity, centre)), velocity)
    assert profile.line_centre == pytest.approx(centre, abs=20)
    assert flux_and_error(profile)[0] == pytest.approx(6000, rel=0.1)


def test_masked_channels_of_the_file_stay_masked():
    flux = noisy(line(VELOCITY))
    flux[[290, 300]] = np.nan
    profile = prepare(flux)
    masked = velocities(profile)[np.isnan(profile.flux)]
    np.testing.assert_allclose(masked, VELOCITY[[290, 300]])


@pytest.mark.parametrize("height", [100, -100])
def test_spikes_beside_the_line_are_masked(height):
    clean = noisy(line(VELOCITY))
    struck = clean.copy()
    struck[[100, 265]] += height
    before, after = prepare(clean), prepare(struck)
    masked = velocities(after)[np.isnan(after.flux)]
    np.testing.assert_allclose(masked, VELOCITY[[265]])
    assert after.snr == pytest.approx(before.snr, rel=0.02)
    assert after.noise == pytest.approx(before.noise, rel=0.05)
    assert after.line_centre == pytest.approx(before.line_centre, abs=5)


def test_horns_of_a_narrow_bright_line_are_no_spikes():
    horns = line(VELOCITY, 3400, 40, 100) + line(VELOCITY, 3600, 40, 100) + line(VELOCITY)
    assert np.isfinite(prepare(noisy(horns)).flux).all()


def test_masked_velocities_hide_galactic_hydrogen():
    velocity = -1000 + 5.0 * np.arange(600)
    flux = noisy(line(velocity, 0, 100, 200) + line(velocity, 1000, 200, 20))
    assert prepare(flux, velocity).line_centre == pytest.approx(0, abs=15)
    profile = prepare(flux, velocity, masked_velocities=(-150, 150))
    assert profile.line_centre == pytest.approx(1000, abs=15)


def test_systemic_velocity_chooses_the_line():
    flux = noisy(line(VELOCITY, 2700, 200, 30) + line(VELOCITY, 4200, 200, 15))
    assert prepare(flux).line_centre == pytest.approx(2700, abs=15)
    # The other line counts as interference, which the contrast would refuse.
    chosen = prepare(flux, systemic_velocity=4150.0, min_contrast=1.0)
    assert chosen.line_centre == pytest.approx(4200, abs=15)
    assert refusal(flux, systemic_velocity=3450.0, search_radius=100.0) == "no detection"


def test_noiseless_profile_in_channels_is_taken_as_it_is():
    channel = np.arange(80.0)
    flux = 50 * np.exp(-(((channel - 40) / 10) ** 2))
    profile = prepare(flux, channel, "channel", resolution=30.0, masked_velocities=(0, 79))
    assert profile.channel_width == pytest.approx(1)
    assert profile.line_centre == pytest.approx(40, abs=1)
    assert np.nanmax(profile.flux) == pytest.approx(50, rel=0.05)
    assert profile.noise >= 1e-3 * 45
    assert np.isfinite(profile.snr)


def test_noisy_profile_in_channels_without_line_free_channels():
    channel = np.arange(40.0)
    flux = noisy(50 * np.exp(-(((channel - 20) / 14) ** 2)), noise=1)
    profile = prepare(flux, channel, "channel")
    assert profile.line_centre == pytest.approx(20, abs=3)


# --- reported errors -----------------------------------------------------------------------------
@pytest.mark.parametrize("order", [1, 3])
def test_baseline_errors_match_the_scatter_of_the_baseline(order):
    rng = np.random.default_rng(5)
    signal = line(VELOCITY, height=40)
    level, slope, reported = [], [], []
    for _ in range(200):
        flux = signal + rng.normal(0, NOISE, len(signal))
        profile = prepare(flux, baseline_order=order)
        start = round((profile.velocity_start - VELOCITY[0]) / 5)
        subtracted = flux[start : start + len(profile.flux)] - profile.flux
        position = (velocities(profile) - 3500) / 150
        on_line = (np.abs(position) < 1) & np.isfinite(subtracted)
        slope_now, level_now = np.polyfit(position[on_line], subtracted[on_line], 1)
        level.append(level_now)
        slope.append(slope_now)
        reported.append((profile.baseline_level_error, profile.baseline_slope_error))
    # A few spectra look rippled by chance, and report more.
    level_error, slope_error = np.median(reported, axis=0)
    assert np.std(level) == pytest.approx(level_error, rel=0.2)
    assert np.std(slope) == pytest.approx(slope_error, rel=0.2)
    assert abs(np.mean(level)) < 0.3 * level_error


def test_baseline_from_afar_where_all_channels_near_the_line_are_masked():
    flux = noisy(line(VELOCITY, width=60, height=60) + 40 * ((VELOCITY - 3500) / 1000) ** 2)
    distance = np.abs(VELOCITY - 3500)
    flux[(distance > 50) & (distance < 500)] = np.nan
    profile = prepare(flux)
    found, error = flux_and_error(profile)
    assert abs(found - 3600) < 4 * error
    assert profile.noise == pytest.approx(NOISE, rel=0.15)
    assert 0.1 < profile.baseline_level_error < 1.5


def test_ripple_raises_the_baseline_errors():
    def mean_error(ripple):
        waves = [ripple * np.sin(2 * np.pi * VELOCITY / 900 + phase) for phase in range(6)]
        profiles = [prepare(noisy(line(VELOCITY, height=60) + w, i)) for i, w in enumerate(waves)]
        return np.mean([profile.baseline_level_error for profile in profiles])

    assert mean_error(2.0) > 2 * mean_error(0.0)


def test_baseline_errors_grow_with_the_noise():
    quiet, loud = (prepare(noisy(line(VELOCITY, height=60), noise=n)) for n in (1.0, 3.0))
    assert loud.baseline_level_error / quiet.baseline_level_error == pytest.approx(3, rel=0.25)


def test_shapes_of_the_baseline_errors():
    shapes = baseline_error_shapes(
        np.array([[900.0, 1000.0, 1100.0]]),
        *(np.array([x]) for x in (1000.0, 200.0, 0.5, 0.3)),
    )
    np.testing.assert_allclose(shapes, [[[0.5, 0.5, 0.5], [-0.3, 0.0, 0.3]]])


# --- what is refused -----------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_detection(seed):
    assert refusal(noisy(baseline(VELOCITY), seed)) == "no detection"


def test_smallest_signal_to_noise_ratio_is_the_users():
    flux = noisy(line(VELOCITY, height=20))
    snr = prepare(flux).snr
    assert refusal(flux, min_snr=1.01 * snr) == "weak detection"
    assert refusal(flux, min_snr=1.01 * snr, weak_snr=1.005 * snr) == "no detection"
    assert prepare(flux, min_snr=0.99 * snr).snr == snr


@pytest.mark.parametrize("centre", [2200, 4800])
def test_line_at_the_end_of_the_spectrum_is_truncated(centre):
    assert refusal(noisy(line(VELOCITY, centre))) == "truncated line"


def test_broad_ripple_is_no_line():
    rippled = noisy(10 * np.sin(2 * np.pi * VELOCITY / 700))
    assert refusal(rippled, baseline_order=1) == "trough beside the line"


def test_smallest_contrast_is_the_users():
    flux = noisy(line(VELOCITY, 3500, 200, 15) + line(VELOCITY, 2700, 200, 5))
    assert refusal(flux, min_contrast=100) == "interference or ripple"
    assert prepare(flux, min_contrast=0).line_centre == pytest.approx(3500, abs=15)


def test_edges_too_gentle_for_a_galaxy():
    flux = noisy(40 * np.exp(-(((VELOCITY - 3500) / 300) ** 2)))
    assert refusal(flux, min_contrast=0, min_edge_steepness=0.9) == "gentle edges"
    assert prepare(flux, min_contrast=0, min_edge_steepness=0).snr > 50


def test_weak_detection_is_listed_with_velocity_width_and_snr():
    with pytest.raises(UnusableError) as caught:
        prepare(noisy(line(VELOCITY, 3500, 200, 3.5)), min_snr=14)
    assert caught.value.reason == "weak detection"
    snr, centre, width = re.fullmatch(
        r"S/N ([\d.]+) below 14 at (\d+) km/s, (\d+) km/s wide", caught.value.value
    ).groups()
    assert float(snr) == pytest.approx(3.5 * np.sqrt(200 / 5) / NOISE, abs=2.5)
    assert float(centre) == pytest.approx(3500, abs=40)
    assert float(width) == pytest.approx(200, rel=0.4)


def test_noise_is_rarely_a_weak_detection():
    reasons = [refusal(noisy(0 * VELOCITY, seed), min_snr=12) for seed in range(60)]
    assert reasons.count("weak detection") <= 3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("share", "width"), [(0.75, 0.5), (1.0, 1.0), (1.5, 0.7)])
def test_trough_beside_a_line_is_refused(seed, share, width):
    trough = line(VELOCITY, 3650 + 150 * width, 300 * width, 20 * share / width)
    flux = noisy(baseline(VELOCITY) + line(VELOCITY) - trough, seed)
    assert refusal(flux) == "trough beside the line"


@pytest.mark.parametrize("seed", range(6))
def test_shallow_trough_is_taken_and_a_large_limit_takes_more(seed):
    def flux(share):
        return noisy(line(VELOCITY) - line(VELOCITY, 3760, 200, 30 * share), seed)

    assert prepare(flux(0.1)).line_centre == pytest.approx(3500, abs=20)
    assert prepare(flux(0.6), max_trough=1.0).line_centre == pytest.approx(3500, abs=20)


def test_line_is_found_beside_a_stronger_feature_that_is_none():
    ripple = 30 * np.sin(2 * np.pi * VELOCITY / 300) * np.exp(-(((VELOCITY - 2500) / 150) ** 2))
    profile = prepare(noisy(ripple + line(VELOCITY, 4000, 250, 8)))
    assert profile.line_centre == pytest.approx(4000, abs=20)
    assert "a stronger feature was refused: trough beside the line" in profile.warning


@pytest.mark.parametrize("seed", range(4))
def test_clear_line_is_accepted_where_the_band_ripples_elsewhere(seed):
    ripple = 5 * np.sin(2 * np.pi * VELOCITY / 250) * np.exp(-(((VELOCITY - 2300) / 250) ** 2))
    profile = prepare(noisy(ripple + line(VELOCITY, 3900, 250, 5), seed), min_snr=12)
    assert 14 < profile.snr < 24
    assert profile.line_centre == pytest.approx(3900, abs=25)
    assert profile.line_width == pytest.approx(250, abs=50)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("side", [-1, 1])
def test_faint_broad_shoulder_belongs_to_the_line(seed, side):
    shoulder = line(VELOCITY, 3500 + 250 * side, 200, 5)
    profile = prepare(noisy(baseline(VELOCITY) + line(VELOCITY) + shoulder, seed))
    low, high = (3150, 3650) if side < 0 else (3350, 3850)
    assert profile.window_low == pytest.approx(low, abs=70)
    assert profile.window_high == pytest.approx(high, abs=70)
    v = velocities(profile)
    kept = np.nansum(profile.flux[np.abs(v - 3500 - 250 * side) < 100]) * profile.channel_width
    assert kept == pytest.approx(1000, rel=0.25)
    assert "of the line's flux in a shoulder" in profile.warning


def test_flux_left_beside_the_window_is_warned_of():
    profile = prepare(noisy(line(VELOCITY) - line(VELOCITY, 3750, 200, 6)))
    assert profile.flux_beside == pytest.approx(-200 * 6 / (300 * 20), abs=0.1)
    assert profile.warning == f"{profile.flux_beside:+.0%} of the line's flux beside it"


def test_clean_line_has_no_warning():
    profile = prepare(noisy(baseline(VELOCITY) + line(VELOCITY)))
    assert profile.warning == ""
    assert abs(profile.flux_beside) < 0.1
    assert profile.window_low == pytest.approx(3350, abs=20)
    assert profile.window_high == pytest.approx(3650, abs=20)


def test_feature_at_a_transmitter_is_no_line():
    frequency = 1420.405751768 / (1 + 3500 / 299792.458)
    flux = noisy(line(VELOCITY))
    assert refusal(flux, interference_frequencies=(1000.0, frequency)) == "known interference"
    assert prepare(flux, interference_frequencies=(frequency - 1.5,)).snr > 50


def test_feature_as_wide_as_the_widest_box_is_no_line():
    assert refusal(noisy(line(VELOCITY, width=420)), width_range=(25, 300)) == "too wide for a line"


@pytest.mark.parametrize("centre", [3500, 3420])
def test_gap_within_the_line_is_said_and_the_line_is_not_cut_there(centre):
    flux = noisy(line(VELOCITY))
    flux[np.abs(VELOCITY - centre) < 30] = np.nan
    profile = prepare(flux)
    assert profile.line_centre == pytest.approx(3500, abs=20)
    assert profile.line_width == pytest.approx(300, abs=30)
    assert np.isnan(profile.flux[np.abs(velocities(profile) - centre) < 28]).all()
    assert "11 of 6" in profile.warning


def test_gap_within_a_lopsided_line_does_not_end_it():
    flux = line(VELOCITY) * np.where(VELOCITY > 3500, 2.0, 0.8)
    flux = noisy(flux)
    flux[np.abs(VELOCITY - 3490) < 28] = np.nan
    profile = prepare(flux)
    assert profile.line_centre == pytest.approx(3500, abs=20)
    assert profile.line_width == pytest.approx(300, abs=30)


@pytest.mark.parametrize("edge", [3350, 3650])
def test_gap_at_an_edge_of_the_line_is_refused(edge):
    flux = noisy(line(VELOCITY))
    flux[np.abs(VELOCITY - edge) < 60] = np.nan
    assert refusal(flux) == "interference"


def test_line_riddled_with_holes_is_interference():
    flux = noisy(line(VELOCITY, height=40))
    inside = np.flatnonzero(np.abs(VELOCITY - 3500) < 140)
    flux[np.setdiff1d(inside, inside[::5])[::2]] = np.nan
    flux[inside[:6]] = np.nan
    assert refusal(flux) == "interference"


def test_line_that_fills_the_spectrum():
    velocity = 3000 + 5.0 * np.arange(40)
    flux = noisy(line(velocity, 3097.5, 140, 100))
    assert refusal(flux, velocity, baseline_order=1) == "line without line-free channels"


def test_uncalibrated_spectrum():
    flux = 1e6 + noisy(line(VELOCITY))
    assert refusal(flux) == "uncalibrated"
    assert prepare(flux, max_flux=1e7).line_centre == pytest.approx(3500, abs=15)


@pytest.mark.parametrize("level", [0.0, 7.0])
@pytest.mark.parametrize("axis", ["velocity", "channel"])
def test_constant_spectrum(level, axis):
    assert refusal(np.full(600, level), axis=axis) == "constant"


def test_constant_but_for_one_channel():
    flux = np.zeros(600)
    flux[300] = 1
    assert refusal(flux) in {"constant", "no detection"}


@pytest.mark.parametrize("case", ["short", "masked", "narrow band", "one channel left", "Galactic"])
def test_too_few_channels(case):
    flux, settings, velocity = noisy(line(VELOCITY)), {}, VELOCITY
    if case == "short":
        flux, velocity = flux[:31], velocity[:31]
    elif case == "masked":
        flux[31:] = np.nan
    elif case == "narrow band":
        velocity = 3000 + 0.1 * np.arange(600)
    elif case == "one channel left":
        settings = {"resolution": 2500.0}
    else:
        settings = {"masked_velocities": (2000, 4900)}
    assert refusal(flux, velocity, **settings) == "too few channels"


def test_nothing_left_between_spikes():
    flux = np.full(600, np.nan)
    flux[:32] = 0
    flux[1:32:3] = 1000.0
    assert refusal(flux, axis="channel", min_channels=16, baseline_order=10) == "too few channels"


@pytest.mark.parametrize(
    "velocity",
    [VELOCITY[::-1], np.zeros(600), np.where(VELOCITY > 3000, VELOCITY + 50, VELOCITY)],
    ids=["descending", "standing", "gap"],
)
def test_wrong_velocity_axis(velocity):
    assert refusal(noisy(line(VELOCITY)), velocity) == "wrong velocity axis"


def test_systemic_velocity_outside_the_spectrum():
    reason = refusal(noisy(line(VELOCITY)), systemic_velocity=9000.0)
    assert reason == "systemic velocity outside the spectrum"
