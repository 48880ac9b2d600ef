"""Spectral types as real catalogues write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom.spectra.optical.spectral_types import CLASSES, parse_spectral_type


@pytest.mark.parametrize(
    ("text", "letter", "subtype"),
    [
        ("A1V", "A", 1), ("O", "O", None), ("O9.5Iae", "O", 9.5), ("O6/O7", "O", 6),
        ("O8V+...", "O", 8), ("07Ia", "O", 7), ("08 Ib", "O", 8), ("B9p(SiCrSr)", "B", 9),
        ("B1/B2Ib", "B", 1), ("A0 V (HB)", "A", 0), ("Am", "A", None), ("Ap", "A", None),
        ("F5Vawvar", "F", 5), ("sdF5", "F", 5), ("sd:F", "F", None), ("F3-5V", "F", 3),
        ("F0V+?", "F", 0), ("G8:IIIw...", "G", 8), ("G8/G9IIIw.", "G", 8), ("G:w?", "G", None),
        ("KIIvw", "K", None), ("K0.5IIIb", "K", 0.5), ("K4-5 III-II", "K", 4), ("K0var", "K", 0),
        ("K3II/IIICNv", "K", 3), ("dM0", "M", 0), ("gM6", "M", 6), ("sdM2", "M", 2),
        ("esdM5", "M", 5), ("M2S?", "M", 2), ("M...", "M", None), (" M5.2 III ", "M", 5.2),
    ],
)  # fmt: skip
def test_the_seven_classes_are_understood(text, letter, subtype):
    found = parse_spectral_type(text)
    assert (found.spectral_class, found.reason) == (letter, "")
    assert math.isnan(found.subtype) if subtype is None else found.subtype == subtype


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no class"), ("Non", "no class"), ("Unknown", "no class"), ("-", "no class"),
        ("WD", "white dwarf"), ("WDMagnetic", "white dwarf"), ("CarbonWD", "white dwarf"),
        ("DA5", "white dwarf"), ("Carbon", "carbon star"), ("R...", "carbon star"),
        ("S?", "S star"), ("WC", "Wolf-Rayet star"), ("WN", "Wolf-Rayet star"),
        ("DoubleStar", "two stars"), ("Binary", "two stars"), ("G6 IV + M6 V", "two stars"),
        ("F5IV+DA", "two stars"), ("CV", "emission-line object"), ("OB", "O or B"),
        ("HB", "stage of evolution, no class"), ("AGB", "stage of evolution, no class"),
        ("GB", "stage of evolution, no class"), ("III", "luminosity, no class"),
        ("L5.5", "brown dwarf"), ("Galaxy", "no star"), ("QSO", "no star"),
        ("sdO", "hot subdwarf"), ("sdB2", "hot subdwarf"), ("G8/K0III", "between two classes"),
        ("G8/K0w+...", "between two classes"), ("AF", "not understood"), ("Mira", "not understood"),
        ("!", "not understood"),
    ],
)  # fmt: skip
def test_what_is_none_of_the_seven_says_why(text, reason):
    found = parse_spectral_type(text)
    assert (found.spectral_class, found.reason) == ("", reason)
    assert math.isnan(found.subtype)


@given(st.text())
def test_any_text_has_a_class_or_a_reason(text):
    found = parse_spectral_type(text)
    assert (found.spectral_class in CLASSES) != bool(found.reason)


@given(st.sampled_from(CLASSES), st.integers(0, 9), st.sampled_from(["", "I", "III", "V", "Ib"]))
def test_plain_types_are_what_they_say(letter, subtype, luminosity):
    found = parse_spectral_type(f"{letter}{subtype}{luminosity}")
    assert found == (letter, subtype, "")
