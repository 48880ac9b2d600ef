import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy.stats import kstest

from skyloom.simulate.hi_profiles import SHAPES, assign_classes, draw_truth, observe, to_hdu
from skyloom.spectra.busy_function import PARAMETER_NAMES, busy_function, line_measures
from skyloom.spectra.readers import read_spectrum


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
