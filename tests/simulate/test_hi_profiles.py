import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy.stats import kstest

from skyloom.simulate.hi_profiles import (
    SHAPES,
    assign_classes,
    asymmetry_distance,
    draw_truth,
    observe,
    observe_lines,
    to_hdu,
)
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES, busy_function, line_measures
from skyloom.spectra.hi.readers import read_spectrum


@pytest.fixture(scope="module")
def truth():
    return draw_truth(1500, np.random.default_rng(0))


def test_asymmetries_follow_the_half_gaussian_with_a_tail(truth):
    excess = truth["a_flux"] - 1
    inner = excess[excess < 0.3]

    def expected(x):
        # Half-Gaussian of 0.13 and 5 % of 0.45, both cut at 0.3.
        from scipy.stats import halfnorm

        total = 0.95 * halfnorm.cdf(x, scale=0.13) + 0.05 * halfnorm.cdf(x, scale=0.45)
        return total / (0.95 * halfnorm.cdf(0.3, scale=0.13) + 0.05 * halfnorm.cdf(0.3, scale=0.45))

    assert kstest(inner, expected).pvalue > 1e-3
    assert 0.01 < (excess > 0.39).mean() < 0.05


def test_shapes_have_their_shares(truth):
    shares = truth["shape"].value_counts(normalize=True)
    np.testing.assert_allclose(shares[list(SHAPES)], [0.352, 0.269, 0.379], atol=0.01)


def test_recorded_measures_are_those_of_the_recorded_parameters(truth):
    row = truth.iloc[[3]]
    velocity = row["velocity_start"].to_numpy()[:, None] + 5.0 * np.arange(512)
    measures = line_measures(
        velocity, busy_function(velocity, row[list(PARAMETER_NAMES)].to_numpy())
    )
    for k, name in enumerate(("w50", "w20", "centroid", "peak_flux", "integrated_flux")):
        assert measures[0, k] == pytest.approx(row[name].iloc[0])
    channels = measures[0, 1] / 5.0
    snr = measures[0, 4] / (row["noise"].iloc[0] * 5.0 * np.sqrt(channels))
    assert snr == pytest.approx(row["snr"].iloc[0], rel=1e-6)


def test_a_flux_alone_does_not_give_the_default_classes(truth):
    classes = assign_classes(truth)
    by_flux = assign_classes(truth, by="a_flux")
    agreement = (classes == by_flux).mean()
    assert 0.6 < agreement < 0.9


def test_classes_have_the_wanted_shares(truth):
    counts = assign_classes(truth).value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=0.002)
    assert assign_classes(truth, shares=(0.6, 0.4)).nunique() == 2


def test_classes_by_edges(truth):
    classes = assign_classes(truth, by="a_flux", shares=None, edges=(1.13, 1.26))
    assert ((truth["a_flux"] >= 1.26) == (classes == 2)).all()
    with pytest.raises(ValueError, match="either shares or edges"):
        assign_classes(truth, shares=None)


def test_noise_and_interference_are_as_recorded(truth):
    quiet = truth[truth["interference_channel"] < 0].iloc[0]
    velocity, flux = observe(quiet, np.random.default_rng(0))
    residual = flux - busy_function(velocity, quiet[list(PARAMETER_NAMES)].to_numpy(float))
    assert residual.std() == pytest.approx(quiet["noise"], rel=0.15)
    struck = truth[truth["interference_channel"] >= 0].iloc[0]
    with_spike = observe(struck, np.random.default_rng(0))[1]
    without = observe(struck.replace({struck["interference_flux"]: 0.0}), np.random.default_rng(0))[
        1
    ]
    assert np.argmax(np.abs(with_spike - without)) == struck["interference_channel"]


def test_files_are_what_a_telescope_writes_and_our_reader_reads(truth):
    row = truth.iloc[7]
    hdu = to_hdu(row, np.random.default_rng(1))
    assert hdu.data.shape == (1, 512)
    keys = ("CTYPE1", "CUNIT1", "BUNIT", "OBJECT")
    assert [hdu.header[k] for k in keys] == ["VELO", "km/s", "mJy", row["id"]]
    from io import BytesIO

    buffer = BytesIO()
    fits.HDUList([hdu]).writeto(buffer)
    spectrum = read_spectrum("CIG000008.fits", buffer.getvalue())
    velocity, flux = observe(row, np.random.default_rng(1))
    np.testing.assert_allclose(spectrum.velocity, velocity)
    np.testing.assert_allclose(spectrum.flux, flux, rtol=1e-6)


def test_the_seed_decides_everything():
    one, two, other = (draw_truth(50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert (one["a_flux"] != other["a_flux"]).any()


# --- where a profile is lopsided ------------------------------------------------------------------


def busy(**changes):
    """A flat-topped line from -100 to 100 km/s."""
    values = dict(zip(PARAMETER_NAMES, (1.0, 0.1, 0.1, 0.0, 0.0, 0.0, 100.0, 2.0), strict=True))
    return np.array(list((values | changes).values()))[None]


def test_unequal_edges_are_lopsided_further_out_than_a_tilted_middle():
    names = list(PARAMETER_NAMES)
    edges = busy(**{names[1]: 0.02})
    middle = busy(**{names[3]: 1e-4, names[5]: 20.0})
    out, inside = (
        asymmetry_distance(p, np.zeros(1), np.array([200.0]))[0] for p in (edges, middle)
    )
    assert inside < 0.8 < out < 1.3


def test_a_symmetric_line_has_a_distance_that_can_be_written_down(truth):
    assert asymmetry_distance(busy(), np.zeros(1), np.array([200.0]))[0] == 0
    assert truth["asymmetry_distance"].between(0, 1.3).all()


def test_where_a_line_is_lopsided_is_no_function_of_how_much(truth):
    for index in ("a_flux", "channel_asymmetry"):
        assert abs(truth["asymmetry_distance"].corr(truth[index], method="spearman")) < 0.4
    classes = assign_classes(truth, by="asymmetry_distance")
    assert classes.value_counts(normalize=True)[0] == pytest.approx(0.5, abs=0.01)


# --- many spectra at once -------------------------------------------------------------------------


def lines_of(table, n_channels=256, seed=0):
    return observe_lines(table, n_channels, np.random.default_rng(seed))


def test_the_noise_of_lines_is_as_recorded(truth):
    table = truth.head(300).assign(ripple_amplitude=0.0)
    start, flux = lines_of(table)
    velocity = start[:, None] + 5.0 * np.arange(256)
    residual = flux - busy_function(velocity, table[list(PARAMETER_NAMES)].to_numpy())
    assert flux.dtype == np.float32
    np.testing.assert_allclose(residual.std(axis=1) / table["noise"], 1, atol=0.25)
    assert (residual / table["noise"].to_numpy()[:, None]).std() == pytest.approx(1, abs=0.01)
    # From channel to channel and from galaxy to galaxy it is independent.
    assert abs(np.mean(residual[:, 1:] * residual[:, :-1]) / residual.var()) < 0.02
    assert abs(np.mean(residual[1:] * residual[:-1]) / residual.var()) < 0.02


@pytest.mark.parametrize("n_channels", [128, 256, 257])
def test_the_line_is_in_the_middle_of_the_cut_out(truth, n_channels):
    start, flux = lines_of(truth, n_channels)
    assert flux.shape == (len(truth), n_channels)
    middle = start + 5.0 * n_channels / 2
    assert np.abs(middle - truth["mid_velocity"]).max() <= 2.5 + 1e-6


def test_lines_are_on_the_channels_of_the_whole_spectrum(truth):
    start, _ = lines_of(truth)
    channel = (start - truth["velocity_start"]) / 5.0
    np.testing.assert_allclose(channel, np.rint(channel), atol=1e-6)


def test_without_noise_lines_are_what_single_spectra_show(truth):
    quiet = truth[truth["interference_channel"] < 0].head(40).assign(noise=1e-12)
    assert (quiet["ripple_amplitude"] > 0).all()
    start, flux = lines_of(quiet)
    for row, first, line in zip(quiet.iloc, start, flux, strict=True):
        velocity, whole = observe(row, np.random.default_rng(0))
        channel = int(np.rint((first - velocity[0]) / 5.0))
        np.testing.assert_allclose(line, whole[channel : channel + 256], atol=1e-4)


def test_lines_have_no_interference(truth):
    struck = truth[truth["interference_channel"] >= 0].assign(noise=1e-12)
    clean = struck.assign(interference_channel=-1, interference_flux=0.0)
    np.testing.assert_array_equal(lines_of(struck)[1], lines_of(clean)[1])


def test_more_lines_than_are_made_at_a_time(truth):
    # 1000 at a time: the noise goes on where it stopped, and the lines stay in their rows.
    start, flux = lines_of(truth)
    assert len(truth) > 1000
    velocity = start[:, None] + 5.0 * np.arange(256)
    model = busy_function(velocity, truth[list(PARAMETER_NAMES)].to_numpy())
    residual = (flux - model) / truth["noise"].to_numpy()[:, None]
    assert residual[1000:].std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(residual[:500].ravel(), residual[1000:1500].ravel())[0, 1]) < 0.02


def test_the_same_seed_gives_the_same_lines(truth):
    for one, two in zip(lines_of(truth.head(5)), lines_of(truth.head(5)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (lines_of(truth.head(5))[1] != lines_of(truth.head(5), seed=1)[1]).all()
