"""Spectral types as catalogues write them, in terms of the seven Harvard classes."""

from __future__ import annotations

import re
from typing import NamedTuple

CLASSES = ("O", "B", "A", "F", "G", "K", "M")
"""From hot to cool, in the order of their numbers."""

# What is none of the seven, though it may begin with their letters.
_OTHERS = {
    "no class": r"(Non|Unknown|NULL|null|none|nan|[-?.]+)?",
    "white dwarf": r"(Carbon|Calcium)?(WD|D[ABCOQXZ]).*",
    "carbon star": r"Carbon.*|C[-\d(].*|[RN]([\d.].*)?",
    "S star": r"S([\d?:].*)?",
    "Wolf-Rayet star": r"W[CNOR].*",
    "two stars": r"Double.*|Binary.*",
    "emission-line object": r"CV.*|EM.*",
    "O or B": r"OB.*",
    "stage of evolution, no class": r"[BR]?HB|[AR]?GB",
    "luminosity, no class": r"[IV]+[ab]*",
    "brown dwarf": r"[LTY]\d.*",
    "no star": r"(?i:galaxy|qso|quasar|agn).*",
}
UNDECIDED = frozenset(
    {
        "no class", "not understood", "O or B", "between two classes",
        "stage of evolution, no class", "luminosity, no class",
    }
)  # fmt: skip
"""Reasons that leave it open which of the seven a star is; by the others it is none of them."""
_OTHER = [(re.compile(pattern), reason) for reason, pattern in _OTHERS.items()]
_TYPE = re.compile(r"(usd|esd|sd|d|g)?:?([OBAFGKM])(\d(?:\.\d+)?)?(.*)")
_SECOND = re.compile(r"([/+-])\s*(?:sd|d|g)?([OBAFGKMDLTW])(?=[\d:.\sABCIV]|$)")


class SpectralType(NamedTuple):
    """What a catalogue says of a star.

    Attributes
    ----------
    spectral_class : str
        One of `CLASSES`; empty where it is none of them.
    subtype : float
        0 to 9.9; NaN where it is not told.
    reason : str
        Why there is no class; empty where there is one.
    """

    spectral_class: str
    subtype: float
    reason: str


def parse_spectral_type(text: str) -> SpectralType:
    """Understand one spectral type.

    Parameters
    ----------
    text : str
        As of LAMOST, SDSS, MILES, STELIB or SIMBAD: ``A1V``, ``dM2``, ``gM0``, ``sdF5``,
        ``G8/K0III``, ``07Ia`` (a zero for an O) ...

    Returns
    -------
    SpectralType
        Prefixes (d, g, sd), luminosities and peculiarities do not change a class; of a range
        within one class (``G0/G1V``, ``K4-5``) the first subtype is taken. A range across
        classes, two stars, hot subdwarfs (sdO, sdB), white dwarfs, carbon stars and the like have
        none.

    Examples
    --------
    >>> parse_spectral_type("dM2")
    SpectralType(spectral_class='M', subtype=2.0, reason='')
    >>> parse_spectral_type("G8/K0III").spectral_class
    ''
    >>> parse_spectral_type("DA").reason
    'white dwarf'
    """
    word = text.strip()
    for pattern, reason in _OTHER:
        if pattern.fullmatch(word):
            return SpectralType("", float("nan"), reason)
    found = _TYPE.fullmatch(re.sub(r"^0(?=\d)", "O", word))
    prefix, letter, subtype, rest = found.groups() if found else ("", "", "", "")
    second = _SECOND.search(rest)
    reason = ""
    if (
        found is None
        or re.match(r"[OBAFGKM]", rest)
        or (not subtype and re.match("[a-z]{3}", rest))
    ):
        reason = "not understood"
    elif prefix and prefix.endswith("sd") and letter in "OB":
        reason = "hot subdwarf"
    elif second and second[1] == "+":
        reason = "two stars"
    elif second and second[2] != letter:
        reason = "between two classes"
    if reason:
        return SpectralType("", float("nan"), reason)
    return SpectralType(letter, float(subtype or "nan"), "")
