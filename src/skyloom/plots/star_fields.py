"""Figures of the study of star fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from skyloom.plots.style import BLUE, GREEN, ORANGE, RED, empty_figure, legend_above, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, ORANGE, GREEN, RED, "#7f7f7f", "#8c564b")
_SNR_EDGES = np.array([5, 7, 10, 15, 25, 50, 100, 1000])


def f1_figure(scores: pd.DataFrame) -> Figure:
    """F1 with its 95 % interval, and completeness at 90 % purity.

    Parameters
    ----------
    scores : pandas.DataFrame
        ``configuration``, ``kind``, ``f1``, ``f1_low``, ``f1_high``, ``completeness_at_90`` and
        ``chance_level``; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(7.5, 1.2 + 0.42 * max(len(scores), 2))
    axis = figure.subplots()
    if scores.empty:
        return empty_figure(figure, axis, "no network was trained")
    position = np.arange(len(scores))[::-1]
    value = scores["f1"].to_numpy()
    errors = np.abs(scores[["f1_low", "f1_high"]].to_numpy().T - value)
    for kind, colour in (("nested", GREEN), ("network", BLUE), ("baseline", ORANGE)):
        chosen = (scores["kind"] == kind).to_numpy()
        axis.barh(
            position[chosen], value[chosen], xerr=errors[:, chosen], color=colour, height=0.7,
            capsize=3, label=kind,
        )  # fmt: skip
    axis.plot(
        scores["completeness_at_90"], position, "D", color="black", ms=5, ls="none",
        label="completeness at 90 % purity",
    )  # fmt: skip
    chance = scores["chance_level"].max()
    axis.axvline(chance, color=RED, ls="--", lw=1.5, label=f"chance {chance:.2f}")
    axis.set_yticks(position, scores["configuration"])
    axis.set(xlim=(0, 1), xlabel="F1 on unseen fields, 95 % interval over fields")
    legend_above(axis, 3, font_size=8)
    return figure


def curves_figure(curves: dict[str, pd.DataFrame]) -> Figure:
    """Purity against completeness at every threshold.

    Parameters
    ----------
    curves : dict of str to pandas.DataFrame
        From `skyloom.evaluation.detection.ranked`, by configuration.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6, 4.5)
    axis = figure.subplots()
    if not curves:
        return empty_figure(figure, axis, "no network was trained")
    for (name, curve), colour in zip(curves.items(), _COLOURS, strict=False):
        axis.plot(curve["completeness"], curve["purity"], color=colour, label=name)
    axis.axhline(0.9, color="grey", ls=":", lw=1)
    axis.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="completeness of stars of S/N above the limit",
        ylabel="purity",
    )  # fmt: skip
    legend_above(axis, 2, font_size=8)
    return figure


def completeness_figure(predictions: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Completeness against the S/N of the stars.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``configuration``, ``star``, ``named`` and ``snr``.
    names : sequence of str
        Configurations that are drawn.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6, 4.5)
    axis = figure.subplots()
    stars = predictions[predictions["star"].astype(bool)]
    if stars.empty:
        return empty_figure(figure, axis, "no network was trained")
    middle = np.sqrt(_SNR_EDGES[1:] * _SNR_EDGES[:-1])
    for name, colour in zip(names, _COLOURS, strict=False):
        own = stars[stars["configuration"] == name]
        bins = np.digitize(own["snr"], _SNR_EDGES) - 1
        rate = own["named"].astype(float).groupby(bins).agg(["mean", "size"])
        rate = rate[(rate.index >= 0) & (rate.index < len(middle)) & (rate["size"] >= 5)]
        error = np.sqrt(rate["mean"] * (1 - rate["mean"]) / rate["size"])
        axis.errorbar(
            middle[rate.index], rate["mean"], error, color=colour, marker="o", ms=4, label=name,
            capsize=2,
        )  # fmt: skip
    axis.set(
        xscale="log", ylim=(0, 1.05), ylabel="completeness",
        xlabel="S/N of the star by the matched filter",
    )  # fmt: skip
    legend_above(axis, 2, font_size=8)
    return figure


def overlay_figure(
    images: Sequence[np.ndarray],
    tables: Sequence[pd.DataFrame],
    titles: Sequence[str],
) -> Figure:
    """Images with known and predicted stars.

    Parameters
    ----------
    images : sequence of numpy.ndarray, shape (height, width)
        In units of the noise.
    tables : sequence of pandas.DataFrame
        ``x``, ``y``, ``star``, ``named`` of each; see `skyloom.evaluation.detection`.
    titles : sequence of str
        Of each.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(3, max(len(images), 1))
    rows = -(-max(len(images), 1) // columns)
    figure = new_figure(4.2 * columns, 4.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    if not images:
        return empty_figure(figure, axes.flat[0], "no network was trained")
    for axis, image, table, title in zip(axes.flat, images, tables, titles, strict=False):
        draw_field(axis, image)
        star, named = table["star"].astype(bool), table["named"].astype(bool)
        for chosen, marker, colour, label in (
            (star & named, "o", "#56b4e9", "found"),
            (star & ~named, "s", "#e69f00", "missed"),
            (~star & named, "x", "#d55e00", "no star of the catalogue"),
        ):
            style = {"color": colour} if marker == "x" else {"ec": colour, "fc": "none"}
            axis.scatter(
                table.loc[chosen, "x"], table.loc[chosen, "y"], s=40, marker=marker, lw=0.9,
                label=label, **style,
            )  # fmt: skip
        axis.set_title(title, fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    return figure


def draw_field(axis: Axes, image: np.ndarray) -> None:
    """Draw an image in grey, dark where it is bright.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Where.
    image : numpy.ndarray, shape (height, width)
        In units of the noise; NaN where nothing was observed.
    """
    axis.imshow(np.arcsinh(image), cmap="gray_r", vmin=-2, vmax=5, origin="lower")
    axis.set(xlabel="x (pixels)", ylabel="y (pixels)")


def catalogue_figure(
    title: str, image: np.ndarray, stars: pd.DataFrame, known: pd.DataFrame | None, step: int = 1
) -> Figure:
    """An image with the stars that were found in it, and those that a catalogue has.

    Parameters
    ----------
    title : str
        Of the image.
    image : numpy.ndarray, shape (height, width)
        In units of the noise.
    stars : pandas.DataFrame
        ``x``, ``y`` (pixels of the whole image) and ``in_catalogue``.
    known : pandas.DataFrame or None
        ``x`` and ``y`` of the stars of the catalogue.
    step : int
        By how much a pixel of the image is larger than one of the whole image.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(8, 8.4)
    axis = figure.subplots()
    draw_field(axis, image)
    listed = stars["in_catalogue"].astype(bool)
    height, width = image.shape
    if known is not None:
        inside = known["x"].between(0, width * step) & known["y"].between(0, height * step)
        axis.scatter(
            known.loc[inside, "x"] / step, known.loc[inside, "y"] / step, marker="s", s=60,
            ec="#e69f00", fc="none", lw=0.6, label="in the catalogue",
        )  # fmt: skip
    for chosen, colour, label in (
        (listed, "#0072b2", "found, in the catalogue"), (~listed, "#d55e00", "found, not in it"),
    ):  # fmt: skip
        if chosen.any() and (known is not None or not listed.any()):
            axis.scatter(
                stars.loc[chosen, "x"] / step, stars.loc[chosen, "y"] / step, s=28, ec=colour,
                fc="none", lw=0.8, label=label if known is not None else "found",
            )  # fmt: skip
    unit = "pixels" if step == 1 else f"{step} pixels"
    axis.set(
        title=f"{title}: {len(stars)} stars", xlabel=f"x ({unit})", ylabel=f"y ({unit})",
        xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5),
    )  # fmt: skip
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def cut_outs_figure(cut_outs: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Small images of detections that no catalogue has.

    Parameters
    ----------
    cut_outs : sequence of numpy.ndarray, shape (size, size)
        In units of the noise.
    titles : sequence of str
        Of each.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = 8
    rows = -(-max(len(cut_outs), 1) // columns)
    figure = new_figure(1.3 * columns, 1.5 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, cut_outs, titles, strict=False):
        axis.imshow(np.arcsinh(image), cmap="gray_r", vmin=-2, vmax=5, origin="lower")
        axis.set_title(title, fontsize=6)
    return figure
