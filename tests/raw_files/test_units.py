"""Units are understood as people write them, and nothing else is guessed."""

import pytest

from skyloom.raw_files import UnusableError
from skyloom.raw_files.units import parse_unit, split_heading, stated_unit, unit_factor


@pytest.mark.parametrize(
    ("written", "target", "factor"),
    [
        ("JY/BEAM", "mJy / beam", 1e3),
        ("Jy beam-1", "mJy / beam", 1e3),
        ("Jy/bm", "mJy / beam", 1e3),
        ("mJy", "mJy", 1),
        ("MJy", "mJy", 1e9),
        ("W m-2 Hz-1", "Jy", 1e26),
        ("KM/S", "km/s", 1),
        ("km s^-1", "km/s", 1),
        ("kms-1", "km/s", 1),
        ("M/S", "km/s", 1e-3),
        ("m.s-1", "km/s", 1e-3),
        ("GHZ", "MHz", 1e3),
        ("A", "Angstrom", 1),
        ("ANGSTROMS", "Angstrom", 1),
        ("Å", "Angstrom", 1),
        ("NM", "Angstrom", 10),
        ("micron", "Angstrom", 1e4),
        ("Microns", "Angstrom", 1e4),
        ("μm", "Angstrom", 1e4),
        ("m", "Angstrom", 1e10),
    ],
)
def test_any_spelling_of_a_unit_is_understood(written, target, factor):
    assert unit_factor(written, target) == pytest.approx(factor)


@pytest.mark.parametrize("written", ["flux", "", "counts per second or so", "K km"])
def test_what_is_no_such_unit_is_refused_and_named(written):
    with pytest.raises(UnusableError, match="wrong units") as caught:
        unit_factor(written, "mJy")
    assert repr(written) in caught.value.value


def test_a_temperature_is_named_as_one():
    with pytest.raises(UnusableError, match="'Ta' is a temperature, expected mJy"):
        unit_factor("Ta", "mJy")


def test_an_a_alone_is_an_angstrom_only_where_a_length_is_sought():
    assert str(parse_unit("A", a_is_angstrom=True)) == "Angstrom"
    assert str(parse_unit("A")) == "A"


@pytest.mark.parametrize(
    ("heading", "split"),
    [
        ("velocity (km/s)", ("velocity", "km/s")),
        ("Flux Density [Jy]", ("flux_density", "Jy")),
        ("[mJy] flux", ("flux", "mJy")),
        ("FLUX_JY", ("flux", "JY")),
        ("wave/nm", ("wave", "nm")),
        ('"Radio velocity" {m/s}', ("radio_velocity", "m/s")),
        ("and_mask", ("and_mask", "")),
        ("flux_err", ("flux_err", "")),
        (" cz ", ("cz", "")),
    ],
)
def test_a_heading_is_split_into_name_and_unit(heading, split):
    assert split_heading(heading) == split


def test_lines_above_a_table_may_state_the_unit():
    assert stated_unit(["# flux: Jy", "# noise 3 mJy", "# by K. Smith"], "mJy") == "Jy"
    assert stated_unit(["# wavelengths [nm]"], "Angstrom") == "nm"
    assert stated_unit(["# nothing of that kind"], "mJy") == ""


def test_units_that_contradict_each_other_are_refused():
    with pytest.raises(UnusableError, match="units contradict each other: Jy, mJy"):
        stated_unit(["# flux in Jy", "# flux in mJy"], "mJy")
