"""A made-up catalogue with the columns and proportions of LAMOST's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_BATCH = 100_000  # rows
# Shares of a release, about: most stars are F and G, one in a hundred thousand is an O star.
_SHARES = {
    "O": 1e-5, "OB": 2e-5, "B": 1e-3, "A": 0.05, "F": 0.32, "G": 0.40, "K": 0.12, "dM": 0.045,
    "gM": 0.004, "sdM": 0.0005, "WD": 0.0015, "Carbon": 0.0005, "DoubleStar": 0.001, "CV": 1e-5,
    "Non": 0.03, "GALAXY": 0.019, "QSO": 0.006,
}  # fmt: skip
_SUBTYPES = {"B": (6, 9), "A": (0, 9), "F": (0, 9), "G": (0, 9), "K": (0, 7), "dM": (0, 9),
             "gM": (0, 6), "sdM": (0, 6)}  # fmt: skip
_LUMINOSITIES = {"A": ("III", "IV", "V")}
_BANDS = ("u", "g", "r", "i", "z")


def write_catalogue(
    path: Path, n: int, rng: np.random.Generator, *, delimiter: str = "|"
) -> dict[str, int]:
    """Write a catalogue, some rows at a time.

    Parameters
    ----------
    path : pathlib.Path
        Where; gzipped if it ends with ``.gz``.
    n : int
        Rows.
    rng : numpy.random.Generator
        Draws them.
    delimiter : str
        Between the columns: obsid, designation, obsdate, lmjd, planid, spid, fiberid, ra, dec
        (deg), snru to snrz, objtype, class, subclass, mag1 to mag7, rv, rv_err (km/s), logg, teff
        (K), feh, each but the first four with an error, and filename.

    Returns
    -------
    dict of str to int
        Rows by group: a class with its prefix, or what is no star.
    """
    import pyarrow as pa
    from pyarrow import csv

    groups = np.array(list(_SHARES))
    shares = np.array(list(_SHARES.values()))
    counts = dict.fromkeys(_SHARES, 0)
    opened = pa.output_stream(str(path), compression="detect")
    writer = None
    with opened as stream:
        for first in range(0, n, _BATCH):
            group = rng.choice(groups, min(_BATCH, n - first), p=shares / shares.sum())
            for name, number in zip(*np.unique(group, return_counts=True), strict=True):
                counts[str(name)] += int(number)
            table = pa.table(_columns(group, first, rng))
            if writer is None:
                # Nothing in it holds the delimiter or a quotation mark.
                options = csv.WriteOptions(delimiter=delimiter, quoting_style="none")
                writer = csv.CSVWriter(stream, table.schema, write_options=options)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return counts


def _columns(group, first, rng):
    """Some rows, as a dict of columns."""
    n = len(group)
    number = np.arange(first, first + n)
    ra = np.round(rng.uniform(0, 360, n), 6)
    dec = np.round(np.degrees(np.arcsin(rng.uniform(-0.15, 0.87, n))), 6)
    lmjd = rng.integers(55860, 58700, n)
    spid, fiber = rng.integers(1, 17, n), rng.integers(1, 251, n)
    plan = number // 4000
    star = ~np.isin(group, ["Non", "GALAXY", "QSO"])
    magnitude = rng.normal(15, 1.5, n)
    values = {
        "obsid": 101001 + number,
        "designation": [f"J{a:010.6f}{b:+010.6f}" for a, b in zip(ra, dec, strict=True)],
        "obsdate": (np.datetime64("1858-11-17") + lmjd).astype(str),
        "lmjd": lmjd, "planid": [f"HD{p:06d}" for p in plan], "spid": spid, "fiberid": fiber,
        "ra": ra, "dec": dec,
    }  # fmt: skip
    for k, band in enumerate(_BANDS):
        values[f"snr{band}"] = np.round(
            np.exp(rng.normal(2.5 + 0.4 * k, 0.8, n) - 0.3 * (magnitude - 15)), 2
        )
    values |= {
        "objtype": np.where(star, "Star", "obj"),
        "class": np.where(star, "STAR", np.where(group == "Non", "Unknown", group)),
        "subclass": _subclasses(group, rng),
    }
    for k in range(7):
        values[f"mag{k + 1}"] = np.round(magnitude - 0.3 * k + rng.normal(0, 0.1, n), 2)
    velocity = np.round(rng.normal(-10, 45, n), 2)
    values |= {
        "rv": np.where(star, velocity, -9999.0), "rv_err": np.round(rng.gamma(4, 2, n), 2),
        "logg": np.round(rng.uniform(1, 5, n), 3), "logg_err": np.round(rng.gamma(4, 0.05, n), 3),
        "teff": np.round(rng.uniform(3500, 9000, n), 1),
        "teff_err": np.round(rng.gamma(4, 30, n), 1),
        "feh": np.round(rng.normal(-0.2, 0.3, n), 3), "feh_err": np.round(rng.gamma(4, 0.05, n), 3),
        "filename": [
            f"spec-{m}-HD{p:06d}_sp{s:02d}-{f:03d}.fits.gz"
            for m, p, s, f in zip(lmjd, plan, spid, fiber, strict=True)
        ],
    }  # fmt: skip
    return values


def _subclasses(group, rng):
    """Spectral types as the catalogue writes them."""
    types = group.astype("U12")
    for name, (low, high) in _SUBTYPES.items():
        rows = np.flatnonzero(group == name)
        subtype = rng.integers(low, high + 1, len(rows)).astype(str)
        luminosity = rng.choice(_LUMINOSITIES.get(name, ("",)), len(rows))
        types[rows] = np.char.add(np.char.add(name, subtype), luminosity)
    return types
