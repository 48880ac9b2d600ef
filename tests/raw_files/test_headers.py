"""What headers say is understood however their cards are written."""

import numpy as np
import pytest
from astropy.io import fits

from skyloom.raw_files import UnusableError
from skyloom.raw_files.headers import (
    axis_values,
    celestial_wcs,
    header_number,
    header_position,
    long_axis,
    number_of,
)


@pytest.mark.parametrize(
    ("written", "number"),
    [(5, 5), ("5000.0", 5000), ("1.0D+03", 1000), (" '5,5' ", 5.5), ("-1d-2", -0.01)],
)
def test_numbers_may_be_text(written, number):
    assert number_of(written) == pytest.approx(number)


@pytest.mark.parametrize("written", ["none", "", "1,234,567", "12:30", None])
def test_what_is_no_number_is_missing(written):
    assert np.isnan(number_of(written))


def test_the_first_number_of_several_cards_counts():
    assert header_number({"A": "unknown", "B": "7.0", "C": 8}, "A", "B", "C") == 7
    assert np.isnan(header_number({}, "A"))


@pytest.mark.parametrize(("shape", "axis"), [((5,), 1), ((1, 5), 1), ((5, 1), 2), ((5, 1, 1), 3)])
def test_the_long_axis_is_wherever_it_is(shape, axis):
    assert long_axis(shape) == axis


def test_several_long_axes_are_no_single_spectrum():
    with pytest.raises(UnusableError, match=r"not a single spectrum: shape \(5, 6\)"):
        long_axis((5, 6))


@pytest.mark.parametrize(
    "step", [{"CDELT1": 2.0}, {"CD1_1": "2.0"}, {"CDELT1": 9.0, "CD1_1": 2.0},
             {"CDELT1": 1.0, "PC1_1": 2.0}],
)  # fmt: skip
def test_a_step_is_told_in_any_way_of_the_standard(step):
    header = {"CRVAL1": 10.0, "CRPIX1": 2.0, "CTYPE1": "VELO"} | step
    np.testing.assert_allclose(axis_values(header, 1, 3), [8, 10, 12])


@pytest.mark.parametrize("missing", ["CRVAL1", "CDELT1"])
def test_an_axis_without_value_or_step_is_refused(missing):
    header = {"CRVAL1": 10.0, "CDELT1": 2.0, "CTYPE1": "VELO"}
    del header[missing]
    with pytest.raises(UnusableError, match="no values along the axis"):
        axis_values(header, 1, 3)


def test_an_axis_that_is_linear_in_frequency_is_computed_by_the_standard():
    rest, n = 1.420405752e9, 200
    frequency = 1.4e9 - 1e5 * np.arange(n)
    optical = 299792.458 * (rest / frequency - 1)
    header = {
        "CTYPE1": "VOPT-F2W", "CUNIT1": "km/s", "CRVAL1": optical[0], "CRPIX1": 1.0,
        "CDELT1": optical[1] - optical[0], "RESTFRQ": rest,
    }  # fmt: skip
    np.testing.assert_allclose(axis_values(header, 1, n), optical, rtol=1e-3)
    assert abs(np.diff(axis_values(header, 1, n)) / header["CDELT1"] - 1).max() > 0.01


def test_the_first_pair_of_cards_that_is_a_position_counts():
    header = {"RA": "", "DEC": "", "RA_OBS": "12:00:00", "DEC_OBS": -30.5}
    found = header_position(header, ("RA", "DEC"), ("RA_OBS", "DEC_OBS"))
    assert found == pytest.approx((180, -30.5))
    assert np.isnan(header_position({"RA": -999, "DEC": -999}, ("RA", "DEC"))).all()
    assert np.isnan(header_position({"RA": 10}, ("RA", "DEC"))).all()


def test_no_place_on_the_sky_is_refused():
    with pytest.raises(UnusableError, match="impossible position: DEC 127"):
        header_position({"RA": 10, "DEC": 127}, ("RA", "DEC"))


def test_axes_on_the_sky_need_their_values_and_steps():
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": "12:00:00", "CRVAL2": 30.0,
        "CRPIX1": 5.0, "CRPIX2": 5.0, "CDELT1": -1e-3, "CDELT2": "1e-3",
    }  # fmt: skip
    place = celestial_wcs(fits.Header(cards)).pixel_to_world(4, 4)
    assert (place.ra.deg, place.dec.deg) == pytest.approx((180, 30))
    for missing in ("CRVAL2", "CDELT1"):
        assert celestial_wcs(fits.Header({k: v for k, v in cards.items() if k != missing})) is None
    assert celestial_wcs(fits.Header({"CTYPE1": "VELO", "CRVAL1": 1.0, "CDELT1": 1.0})) is None
