"""Lines of a sample, given as tables: ready to be drawn, and changed."""

import numpy as np
import pandas as pd
import pytest

from skyloom.images.rings import render_rings
from skyloom.simulate.hi_profiles import draw_truth, observe_lines
from skyloom.spectra.hi.lines import change_profiles, fit_profiles, line_geometry, published_cut

# --- fitted and drawn -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """Profiles, fluxes and fits of some simulated galaxies."""
    rng = np.random.default_rng(3)
    truth = draw_truth(6, rng, snr_median=60.0)
    start, flux = observe_lines(truth, 256, rng)
    profiles = truth[["id", "channel_width", "noise"]].assign(velocity_start=start)
    fits = pd.concat([table for table, _ in fit_profiles(profiles, flux)], ignore_index=True)
    return truth, profiles, flux, fits


def test_a_sample_is_fitted_row_by_row_and_finds_the_lines(fitted):
    truth, profiles, flux, fits = fitted
    assert fits["id"].tolist() == profiles["id"].tolist()
    assert fits["usable"].all()
    deviation = (fits["w50"] - truth["w50"]) / fits["w50_error"]
    assert deviation.abs().max() < 5
    ((one, _),) = fit_profiles(profiles.iloc[[4]], flux[[4]])
    np.testing.assert_allclose(one["w20"], fits["w20"].iloc[[4]], rtol=1e-6)


def test_widths_at_half_the_peak_that_may_be_those_of_one_horn_are_marked(fitted):
    *_, fits = fitted
    expected = fits["w50"] < fits["w20"] / 2
    assert (fits["w50_below_half_w20"] == expected).all()
    assert not fits["w50_below_half_w20"].all()


def test_geometry_of_some_rows_is_that_of_the_sample(fitted):
    _, profiles, flux, fits = fitted
    whole = line_geometry(profiles, flux, fits)
    for rows in ([4, 1], np.array([2]), slice(3)):
        for name, values in line_geometry(profiles, flux, fits, rows).items():
            np.testing.assert_array_equal(values, whole[name][rows])


def test_gaps_are_filled_by_the_fit_and_the_padding_is_not_counted(fitted):
    _, profiles, flux, fits = fitted
    spoiled = np.array(flux, dtype=float)
    middle = int(
        (fits["low_edge"][0] - profiles["velocity_start"][0]) / profiles["channel_width"][0]
    )
    spoiled[0, middle + 3] = np.nan
    spoiled[:, 200:] = np.nan
    line = line_geometry(profiles, spoiled, fits)
    assert np.isfinite(line["flux"]).all()
    assert set(line["n_channels"]) == {200}
    residual = line["flux"][0, middle + 3] - flux[0, middle + 3]
    assert abs(residual) < 8 * profiles["noise"][0]


def test_what_the_published_recipe_paints_is_the_line_and_some_channels_about_it(fitted):
    _, profiles, flux, fits = fitted
    line = line_geometry(profiles, flux, fits)
    for row in range(len(profiles)):
        width = 2 * (line["w50"][row] / line["channel_width"][row] + 5) + 1
        assert len(published_cut(line, row)) == pytest.approx(width, abs=1.5)


# --- changed profiles -----------------------------------------------------------------------------

N_CHANNELS = 64


def lines(n=3, noise=0.0, m=N_CHANNELS):
    """Lopsided lines; the last one ends before the array does."""
    velocity = 1000 + 5.0 * np.arange(m)
    flux = np.stack(
        [
            np.exp(-(((velocity - 1120 - 12 * i) / 40) ** 2))
            + 0.6 * np.exp(-(((velocity - 1200 - 5 * i) / 25) ** 2))
            for i in range(n)
        ]
    )
    n_channels = np.full(n, m)
    n_channels[-1] = m - 7
    flux[-1, m - 7 :] = 0
    return {
        "flux": flux,
        "n_channels": n_channels,
        "velocity_start": np.full(n, 1000.0),
        "channel_width": np.full(n, 5.0),
        "noise": np.full(n, noise),
        "centre": np.linspace(1140.0, 1150.0, n),
        "half_width": np.full(n, 90.0),
        "peak": flux.max(axis=1),
        "usable": np.ones(n, bool),
    }


def copies_of(n, *, exchanged=False, snr_factor=1.0, fold_shift=0.0, copy=1, first=0):
    return pd.DataFrame(
        {
            "profile": range(first, first + n), "copy": copy, "exchanged": exchanged,
            "snr_factor": snr_factor, "fold_shift": fold_shift,
        }
    )  # fmt: skip


def rings(line):
    return render_rings(
        line["flux"],
        line["velocity_start"],
        line["channel_width"],
        line["centre"],
        1.3 * line["half_width"],
        size=24,
    )


def test_exchanging_the_sides_turns_the_sign_of_the_fold_image():
    before = lines()
    after = change_profiles(before, copies_of(3, exchanged=True))
    fold, mirrored = rings(before)[:, 1], rings(after)[:, 1]
    assert np.abs(fold).max(axis=(1, 2)).min() > 0.2
    np.testing.assert_allclose(mirrored, -fold, atol=2e-5)


def test_exchanging_the_sides_mirrors_flux_and_fold_velocity():
    before = lines()
    after = change_profiles(before, copies_of(3, exchanged=[True, False, True]))
    np.testing.assert_array_equal(after["flux"][0], before["flux"][0, ::-1])
    np.testing.assert_array_equal(after["flux"][1], before["flux"][1])
    n = before["n_channels"][2]
    np.testing.assert_array_equal(after["flux"][2, :n], before["flux"][2, :n][::-1])
    np.testing.assert_array_equal(after["flux"][2, n:], 0)
    last = 1000 + 5.0 * (N_CHANNELS - 1)
    assert after["centre"][0] == pytest.approx(1000 + last - before["centre"][0])
    assert after["centre"][1] == before["centre"][1]


def test_exchanging_twice_changes_nothing():
    before = lines()
    twice = change_profiles(
        change_profiles(before, copies_of(3, exchanged=True)), copies_of(3, exchanged=True)
    )
    np.testing.assert_array_equal(twice["flux"], before["flux"])
    np.testing.assert_allclose(twice["centre"], before["centre"])


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_noise_is_added_until_the_signal_to_noise_ratio_is_as_planned(factor):
    before = lines(20, noise=0.3, m=2000)
    after = change_profiles(before, copies_of(20, snr_factor=factor))
    added = (after["flux"] - before["flux"])[:-1]
    assert added.mean() == pytest.approx(0, abs=0.01)
    total = np.hypot(0.3, added.std(axis=1))
    np.testing.assert_allclose(total, 0.3 / factor, rtol=0.06)
    assert np.hypot(0.3, added.std()) == pytest.approx(0.3 / factor, rel=0.015)
    lag = (added[:, 1:] * added[:, :-1]).mean() / added.var()
    assert abs(lag) < 0.03


def test_untouched_rows_are_identical_and_the_input_is_not_changed():
    before = lines(4, noise=0.2)
    kept = {key: value.copy() for key, value in before.items()}
    copies = copies_of(
        4,
        exchanged=[False, True, False, False],
        snr_factor=[1, 0.7, 1, 0.6],
        fold_shift=[0, 0, 4.0, 0],
    )
    after = change_profiles(before, copies)
    for key, value in kept.items():
        np.testing.assert_array_equal(before[key], value)
    np.testing.assert_array_equal(after["flux"][[0, 2]], kept["flux"][[0, 2]])
    assert (after["flux"][[1, 3]] != kept["flux"][[1, 3]]).any(axis=1).all()
    assert after["centre"][0] == kept["centre"][0]
    assert after["centre"][2] == kept["centre"][2] + 4.0


def test_the_noise_of_a_copy_does_not_depend_on_the_copies_beside_it():
    before = lines(4, noise=0.2)
    copies = copies_of(4, snr_factor=0.6, first=10)
    together = change_profiles(before, copies)["flux"]
    alone = change_profiles({k: v[2:3] for k, v in before.items()}, copies.iloc[2:3])["flux"]
    np.testing.assert_array_equal(together[2], alone[0])
    noise = together - before["flux"]
    assert abs(np.corrcoef(noise[:3])[np.triu_indices(3, 1)]).max() < 0.5
    other = change_profiles(before, copies_of(4, snr_factor=0.6, first=10, copy=2))["flux"]
    assert (other != together).any(axis=1).all()
