"""Measures of made images tell good ones from dark, repeated and copied ones."""

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.synthetic import (
    compare_lines,
    distribution_distances,
    diversity,
    histogram_error,
    image_histograms,
    image_statistics,
    judge_spectra,
    kernel_distance,
    rows_with_shares,
    share_of_copies,
    spectrum_error,
)


def sources(n, seed, width=2.0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24] - 12
    scale = width * rng.uniform(0.7, 1.3, n)[:, None, None]
    images = np.exp(-(x**2 + y**2) / (2 * scale**2))
    return images[..., None] * rng.uniform(0.6, 1, n)[:, None, None, None]


def test_statistics_of_a_known_image():
    image = np.zeros((1, 5, 5, 1))
    image[0, 2, 2], image[0, 2, 4], image[0, 0, 0] = 1.0, 0.5, 0.05
    (row,) = image_statistics(image).itertuples()
    assert (row.flux, row.area) == (pytest.approx(1.55), 2)
    assert row.spread == pytest.approx((0.5 * 2 + 0.05 * np.hypot(2, 2)) / 1.55)


def test_a_dark_image_has_statistics():
    assert np.isfinite(image_statistics(np.zeros((2, 5, 5, 1)))).all(axis=None)


def test_histograms_agree_with_themselves_and_not_with_other_images():
    real = sources(400, 0)
    assert set(histogram_error(real, real).values()) == {0.0}
    alike = histogram_error(real, sources(400, 1))["mean"]
    wider = histogram_error(real, sources(400, 1, width=4.0))
    assert alike < 0.4 < 1.0 < wider["mean"]
    assert wider["flux"] > 1.5
    dark = histogram_error(real, np.zeros((10, 24, 24, 1)))
    assert dark["pixel"] == 2
    assert dark["mean"] > 1.5


def test_histograms_to_be_looked_at_share_their_bins_and_lose_no_value():
    groups = {"real": sources(200, 0), "wide": sources(50, 1, width=4.0)}
    table = image_histograms(groups, n_bins=10)
    assert table.groupby(["images", "quantity"]).size().eq(10).all()
    np.testing.assert_allclose(table.groupby(["images", "quantity"])["share"].sum(), 1)
    assert table.groupby("quantity")["low"].nunique().eq(10).all()
    flux = table[table["quantity"] == "flux"].set_index("images")
    mean = {name: (flux.loc[name, "low"] * flux.loc[name, "share"]).sum() for name in groups}
    assert mean["wide"] > 1.5 * mean["real"]
    fluxes = groups["real"].sum(axis=(1, 2, 3))
    first = flux.loc["real"].iloc[3]
    inside = (fluxes >= first["low"]) & (fluxes < first["high"])
    assert first["share"] == pytest.approx(inside.mean())


def test_dark_images_have_histograms():
    table = image_histograms({"real": sources(20, 0), "dark": np.zeros((3, 24, 24, 1))})
    dark = table[(table["images"] == "dark") & (table["quantity"] == "pixel")]
    assert dark["share"].eq(0).all()


def test_equal_images_have_no_diversity():
    assert diversity(np.ones((5, 4, 4, 1))) == 0
    assert diversity(sources(50, 0)) > 0.3
    assert np.isnan(diversity(np.ones((1, 4, 4, 1))))


def test_the_kernel_distance_is_unbiased_and_grows():
    rng = np.random.default_rng(0)
    same = [
        kernel_distance(rng.standard_normal((60, 8)), rng.standard_normal((60, 8)))
        for _ in range(60)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    assert min(same) < 0
    shifted, far = (
        kernel_distance(rng.standard_normal((60, 8)), rng.standard_normal((60, 8)) + by)
        for by in (1, 2)
    )
    assert 5 * np.std(same) < shifted < far


def test_copies_are_found_and_new_images_are_not():
    rng = np.random.default_rng(0)
    train, held_out, new = (rng.standard_normal((2000, 4)) for _ in range(3))
    assert share_of_copies(train[:50] + 1e-6, train, held_out) == 1
    assert share_of_copies(new, train, held_out) == pytest.approx(0.05, abs=0.02)


def test_spectra_of_one_distribution_differ_little_and_all_alike_ones_much():
    rng = np.random.default_rng(0)
    line = np.exp(-0.5 * ((np.arange(200) - 90) / 4) ** 2)
    real, again = (1 - rng.normal(0.5, 0.2, (300, 1)) * line for _ in range(2))
    assert spectrum_error(real, real) == 0
    assert spectrum_error(real, again) < 0.3
    alike = np.repeat(real.mean(axis=0)[None], 50, axis=0)
    assert spectrum_error(real, alike) == pytest.approx(1, abs=1e-6)
    assert spectrum_error(real, np.ones((50, 200))) > 2


def test_images_are_compared_with_the_same_shares_of_the_classes():
    classes = np.repeat([0, 1, 2], 40)
    shares = pd.Series({0: 0.5, 1: 0.25, 2: 0.25})
    rows = rows_with_shares(classes, shares, np.random.default_rng(0))
    assert np.bincount(classes[rows]).tolist() == [40, 20, 20]
    assert len(set(rows)) == len(rows)


def test_a_class_without_images_is_left_out_of_the_comparison():
    shares = pd.Series({0: 0.5, 1: 0.25, 2: 0.25})
    rows = rows_with_shares(np.repeat([0, 2], 40), shares, np.random.default_rng(0))
    assert len(rows) == 60
    assert len(rows_with_shares(np.zeros(0, int), shares, np.random.default_rng(0))) == 0


# --- spectra --------------------------------------------------------------------------------------


def spectra(n, seed, depth=0.5, scatter=0.05):
    rng = np.random.default_rng(seed)
    line = np.exp(-0.5 * ((np.arange(40) - 20) / 3) ** 2)
    depths = depth * rng.uniform(0.5, 1.5, (n, 1))
    return 1 - depths * line + scatter * rng.standard_normal((n, 40))


def widths_of(flux):
    return pd.DataFrame({"here": (1 - flux[:, 15:26]).sum(axis=1), "nowhere": np.nan})


def test_spectra_are_judged_beside_held_out_ones():
    train = spectra(40, 0)
    groups = {
        "observed, held out": spectra(40, 1),
        "shallow": spectra(40, 2, depth=0.1),
        "copies": train[:20],
        "one": np.repeat(train[:1], 20, axis=0),
    }
    table = judge_spectra(train, groups, lambda flux: flux, widths_of).set_index("spectra")
    assert table["n_spectra"].tolist() == [40, 40, 20, 20]
    assert table["n_held_out"].eq(40).all()
    held, shallow = table.loc["observed, held out"], table.loc["shallow"]
    for name in ("spectrum_error", "line_error", "kernel_distance"):
        assert shallow[name] > 2 * held[name]
    assert table.loc["copies", "share_of_copies"] == 1
    assert table.loc["one", "diversity"] == 0


def test_lines_are_compared_with_those_of_the_first_group():
    groups = {"observed": widths_of(spectra(50, 3)), "made": widths_of(spectra(50, 4, depth=0.2))}
    table = compare_lines(groups)
    assert table["line"].tolist() == ["here", "here"]  # the other was measured in none
    assert table["ks_distance"].iloc[0] == 0
    assert table["ks_distance"].iloc[1] > 0.5
    assert table["n_spectra"].tolist() == [50, 50]
    for name, values in groups.items():
        row = table[table["spectra"] == name].iloc[0]
        expected = values["here"].quantile([0.25, 0.5, 0.75])
        np.testing.assert_allclose(row[["quarter", "median", "three_quarters"]].tolist(), expected)


def test_a_distance_needs_two_values_of_both():
    few, many = pd.DataFrame({"a": [1.0, np.nan]}), pd.DataFrame({"a": [1.0, 2.0]})
    assert distribution_distances(few, many) == {}
    assert distribution_distances(many, many + 10) == {"a": 1.0}
