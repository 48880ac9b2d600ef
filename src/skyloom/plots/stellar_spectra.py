"""Figures of spectra of stars."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skyloom.plots.style import (
    BLACK,
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    legend_above,
    new_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAVELENGTH = "wavelength in vacuum (Å)"
# What the figures point at (Angstrom in vacuum).
LINES = {
    3934.8: "Ca II K", 4102.9: "Hδ", 4305.0: "G", 4341.7: "Hγ", 4472.7: "He I", 4542.8: "He II",
    4687.0: "He II", 4862.7: "Hβ", 5175.0: "Mg b", 5413.0: "He II", 5877.2: "He I",
    5894.6: "Na D", 6160.0: "TiO", 6564.6: "Hα", 7055.0: "TiO",
}  # fmt: skip


def _name_lines(axis: Axes, wavelength: np.ndarray, *, named: bool = True) -> None:
    """Dotted lines, with names above the axes."""
    last = -np.inf
    for place, name in sorted(LINES.items()):
        if not wavelength[0] < place < wavelength[-1]:
            continue
        axis.axvline(place, color=GREY, lw=0.6, ls=":", zorder=0)
        if not named:
            continue
        # Neighbours would be written over each other.
        label_at = max(place, last + 0.017 * (wavelength[-1] - wavelength[0]))
        last = label_at
        axis.annotate(
            name, (label_at, 1.01), xycoords=("data", "axes fraction"), rotation=90,
            fontsize=6, ha="center", va="bottom", color=BLACK,
        )  # fmt: skip


def classes_figure(wavelength: np.ndarray, spectra: dict[str, np.ndarray]) -> Figure:
    """Some spectra of each class as a network sees them.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (m,)
        Angstrom.
    spectra : dict of str to numpy.ndarray, shape (n, m)
        By class.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(10, 1.2 + 1.1 * max(1, len(spectra)))
    axes = figure.subplots(max(1, len(spectra)), 1, sharex=True, squeeze=False)[:, 0]
    for number, (axis, (name, flux)) in enumerate(zip(axes, spectra.items(), strict=False)):
        colour = CYCLE[number % len(CYCLE)]
        for row in flux[1:]:
            axis.plot(wavelength, row, color=GREY, lw=0.4, alpha=0.6)
        if len(flux):
            axis.plot(wavelength, flux[0], color=colour, lw=0.8)
            low, high = np.percentile(flux, [0.3, 99.7])
            axis.set_ylim(low - 0.1, high + 0.1)
        axis.set_ylabel(name, rotation=0, labelpad=12)
        axis.set_xlim(wavelength[0], wavelength[-1])
    for number, axis in enumerate(axes):
        _name_lines(axis, wavelength, named=number == 0)
    axes[-1].set_xlabel(WAVELENGTH)
    figure.supylabel("prepared flux", fontsize=9)
    return figure


def spectra_pages(
    wavelength: np.ndarray, flux: np.ndarray, captions: Sequence[str], *, rows: int = 10,
    title: str = "",
) -> Iterator[Figure]:  # fmt: skip
    """Pages of labelled spectra, to be looked through by eye.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (m,)
        Angstrom.
    flux : numpy.ndarray, shape (n, m)
        Spectra.
    captions : sequence of str
        One for each.
    rows : int
        Of a page, with two spectra in each.
    title : str
        On top of each page, before its number.

    Yields
    ------
    matplotlib.figure.Figure
        One page at a time; none where there are no spectra.
    """
    n_pages = -(-len(flux) // (2 * rows))
    for page in range(n_pages):
        figure = new_figure(8.3, 11.7)
        axes = figure.subplots(rows, 2, sharex=True).ravel()
        for axis in axes:
            axis.set_axis_off()
        for k, axis in enumerate(axes):
            number = 2 * rows * page + k
            if number >= len(flux):
                break
            axis.set_axis_on()
            axis.plot(wavelength, flux[number], color=BLUE, lw=0.5)
            axis.set_title(textwrap.shorten(captions[number], 60), fontsize=6)
            axis.tick_params(labelsize=5)
            if k >= 2 * rows - 2 or number + 2 >= len(flux):
                axis.set_xlabel(WAVELENGTH, fontsize=6)
                axis.tick_params(labelbottom=True)
        figure.suptitle(f"{title} {page + 1} of {n_pages}".strip(), fontsize=9)
        yield figure


def film_frame(wavelength: np.ndarray, flux: np.ndarray, text: str) -> np.ndarray:
    """Spectra above each other under a line of text, as one frame of a film.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (m,)
        Angstrom.
    flux : numpy.ndarray, shape (n, m)
        Spectra.
    text : str
        Such as the epoch.

    Returns
    -------
    numpy.ndarray of float32, shape (height, width)
        From 0 to 1; rows go down.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = new_figure(6, 0.5 + 0.6 * len(flux))
    figure.set_dpi(90)
    axis = figure.subplots()
    for number, row in enumerate(flux):
        axis.plot(wavelength, np.clip(row, -0.5, 2) - 0.8 * number, color=BLACK, lw=0.6)
    axis.set(xlabel=WAVELENGTH, title=text, yticks=[], ylim=(-0.8 * len(flux) + 0.2, 1.6))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=-1).astype(np.float32) / 255


def made_figure(
    wavelength: np.ndarray, made: np.ndarray, real: np.ndarray, name: str
) -> Figure:  # fmt: skip
    """Made spectra beside those that they were learnt from.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (m,)
        Angstrom.
    made, real : numpy.ndarray, shape (n, m)
        Spectra.
    name : str
        Of the class.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(11, 6)
    axes = figure.subplots(1, 2, sharey=True)
    step = 2 * float(np.ptp(np.percentile(real, [1, 99]))) if real.size else 1.0
    for axis, flux, title in zip(
        axes, (made, real), (f"made {name} spectra", f"{name} spectra of the training"), strict=True
    ):
        for number, row in enumerate(flux):
            axis.plot(wavelength, row - step * number, lw=0.5, color=CYCLE[number % len(CYCLE)])
        axis.set(xlabel=WAVELENGTH, xlim=(wavelength[0], wavelength[-1]))
        axis.set_title(title, fontsize=9, pad=32)
        _name_lines(axis, wavelength)
    axes[0].set_ylabel("prepared flux, shifted")
    return figure


def rare_figure(table: pd.DataFrame, name: str) -> Figure:
    """Recall, precision and purity of the rare class by configuration.

    Parameters
    ----------
    table : pandas.DataFrame
        ``configuration``; ``recall``, ``precision``, ``purity`` and ``difference`` (of the recall),
        each with ``_low`` and ``_high``; ``minus``, what the difference is to; may be empty.
    name : str
        Of the class.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(12, 1.7 + 0.4 * max(len(table), 2))
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(3, 2, 2))
    place = np.arange(len(table))[::-1].astype(float)
    minus = table["minus"].unique()
    panels = (
        (axes[0], "recall", BLUE, place + 0.12, "recall"),
        (axes[0], "precision", ORANGE, place - 0.12, "precision"),
        (axes[1], "difference", GREEN, place, None),
        (axes[2], "purity", RED, place, None),
    )
    for axis, column, colour, at, label in panels:
        value, low, high = (
            table[f"{column}{end}"].to_numpy(float) for end in ("", "_low", "_high")
        )
        errors = np.nan_to_num([np.maximum(value - low, 0), np.maximum(high - value, 0)])
        axis.errorbar(value, at, xerr=errors, fmt="o", color=colour, capsize=3, label=label)
    axes[0].set_yticks(place, table["configuration"])
    axes[0].set(xlabel=f"of {name} stars in the test, 95 %", xlim=(-0.03, 1.03))
    reference = minus[0] if len(minus) == 1 else "its reference"
    axes[1].set(xlabel=f"recall minus that of\n{reference}, 95 % paired")
    axes[1].axvline(0, color=GREY, ls="--", lw=1)
    axes[2].set(xlabel="purity at the class's share of the\nsurvey, interval wider than 95 %")
    axes[2].set_xscale("symlog", linthresh=1e-5)
    axes[2].set_xlim(0, 2)
    if len(table):
        legend_above(axes[0], 2)
    return figure


def snr_figure(table: pd.DataFrame) -> Figure:
    """Success rate against S/N.

    Parameters
    ----------
    table : pandas.DataFrame
        ``configuration``, ``snr`` (median of a bin), ``n_spectra``, ``success_rate`` with ``_low``
        and ``_high``; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(7, 4.2)
    axis = figure.subplots()
    for number, (name, part) in enumerate(table.groupby("configuration", sort=False)):
        rate = part["success_rate"]
        axis.errorbar(
            part["snr"] * 1.02**number, rate, marker="o", capsize=3, label=name,
            yerr=[(rate - part["success_rate_low"]).clip(lower=0),
                  (part["success_rate_high"] - rate).clip(lower=0)],
            color=CYCLE[number % len(CYCLE)],
        )  # fmt: skip
    axis.set(
        xlabel="S/N of a pixel in the g band, median of a bin", ylabel="success rate, 95 % interval"
    )
    if len(table):
        axis.set_xscale("log")
        legend_above(axis, 3)
    return figure


def occlusion_figure(
    wavelength: np.ndarray, means: dict[str, np.ndarray], table: pd.DataFrame
) -> Figure:
    """Which wavelengths decide: mean spectra, and what hiding a window costs.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (m,)
        Angstrom.
    means : dict of str to numpy.ndarray, shape (m,)
        Mean spectrum of each class.
    table : pandas.DataFrame
        ``class``, ``low`` and ``high`` (ends of the window, Angstrom) and ``drop`` of the
        probability of the true class; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(10, 1.4 + 1.25 * max(1, len(means)))
    axes = figure.subplots(max(1, len(means)), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, flux) in zip(axes, means.items(), strict=False):
        axis.plot(wavelength, flux, color=BLACK, lw=0.7)
        axis.set_ylabel(name, rotation=0, labelpad=12)
        own = table[table["class"] == name]
        beside = axis.twinx()
        edges = [*own["low"], *own["high"].iloc[-1:]]
        if len(own):
            beside.stairs(own["drop"], edges, fill=True, color=ORANGE, alpha=0.5)
        beside.set_ylim(0, max(0.02, 1.1 * own["drop"].max()) if len(own) else 1)
        beside.tick_params(labelsize=6, colors=RED)
        if axis is axes[len(means) // 2]:
            beside.set_ylabel(
                "drop of the probability of the true class (shaded)", color=RED, fontsize=9,
                labelpad=16,
            )  # fmt: skip
        axis.set_xlim(wavelength[0], wavelength[-1])
        axis.set_zorder(beside.get_zorder() + 1)
        axis.patch.set_visible(False)
    for number, axis in enumerate(axes):
        _name_lines(axis, wavelength, named=number == 0)
    axes[-1].set_xlabel(WAVELENGTH)
    figure.supylabel("mean spectrum (line)", fontsize=9)
    return figure


def lines_figure(table: pd.DataFrame) -> Figure:
    """Equivalent widths of made spectra beside those of observed ones.

    Parameters
    ----------
    table : pandas.DataFrame
        ``spectra`` (what they are), ``line``, ``median``, ``quarter`` and ``three_quarters``
        (Angstrom); may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    lines = list(dict.fromkeys(table["line"]))
    figure = new_figure(10, 4.5)
    axis = figure.subplots()
    groups = list(dict.fromkeys(table["spectra"]))
    for number, name in enumerate(groups):
        part = table[table["spectra"] == name].set_index("line").reindex(lines)
        shift = (number - (len(groups) - 1) / 2) * 0.8 / max(1, len(groups))
        axis.errorbar(
            np.arange(len(lines)) + shift, part["median"], fmt="s" if number == 0 else "o", ms=4,
            yerr=[part["median"] - part["quarter"], part["three_quarters"] - part["median"]],
            color=BLACK if number == 0 else CYCLE[(number - 1) % len(CYCLE)], label=name,
            capsize=2,
        )  # fmt: skip
    axis.axhline(0, color=GREY, lw=0.8)
    axis.set_xticks(np.arange(len(lines)), lines, rotation=60, ha="right", fontsize=7)
    axis.set(ylabel="equivalent width (Å), median and quartiles\npositive: absorption")
    if groups:
        legend_above(axis, 4)
    return figure


def audit_figure(table: pd.DataFrame, n_classes: int, rare: str) -> Figure:
    """The published recipe with true and with shuffled classes, and its kernel sizes.

    Parameters
    ----------
    table : pandas.DataFrame
        The table of the audit of ``stellar_spectra``; may be empty.
    n_classes : int
        For the chance level.
    rare : str
        The rare class.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(11, 4.2)
    left, middle, right = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    measures = {
        "success_rate": "success rate,\nall test spectra",
        "success_rate_of_real": "success rate,\nobserved only",
        "rare_recall": f"recall of {rare},\nmade ones too",
        "rare_recall_of_real": f"recall of {rare},\nobserved only",
    }
    for labels, colour, shift in (("true", BLUE, -0.12), ("shuffled", ORANGE, 0.12)):
        part = table[table["labels"] == labels]
        for place, column in enumerate(measures):
            values = part[column].dropna()
            label = f"{labels} classes" if place == 0 else None
            left.plot(np.full(len(values), place + shift), values, "o", ms=4, color=colour,
                      alpha=0.6, label=label)  # fmt: skip
    left.axhline(1 / max(1, n_classes), color=RED, ls="--", lw=1, label="one in all classes")
    left.set_xticks(range(len(measures)), list(measures.values()), fontsize=6)
    left.set(ylabel="share of the test spectra", ylim=(-0.03, 1.03))
    legend_above(left, 3)
    true = table[table["labels"] == "true"]
    middle.plot(true["kernel_size"], true["success_rate"], "o", color=BLUE, ms=4, alpha=0.6)
    middle.set(xlabel="kernel size (pixels)", ylabel="success rate, all test spectra")
    right.plot(true["kernel_size"], true["initial_scale"], "o", color=GREEN, ms=4, alpha=0.6)
    right.set(
        xlabel="kernel size (pixels)",
        ylabel="standard deviation of the initial weights\nof the one tap that sees the spectrum",
    )
    return figure
