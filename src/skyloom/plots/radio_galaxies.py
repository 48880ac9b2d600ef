"""Figures of cut-outs of radio galaxies."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skyloom.plots.style import BLACK, CYCLE, GREY, legend_above, legend_of_all, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def contact_sheets(
    images: np.ndarray, captions: Sequence[str], *, columns: int = 7, rows: int = 8, title: str = ""
) -> Iterator[Figure]:
    """Pages of labelled thumbnails, to be looked through by eye.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, size, size)
        Brightness from 0 to 1; rows go up.
    captions : sequence of str
        One below each image.
    columns, rows : int
        Of a page.
    title : str
        On top of each page, before its number.

    Yields
    ------
    matplotlib.figure.Figure
        One page at a time; none where there are no images.
    """
    size, each, gap = images.shape[-1], columns * rows, 4
    below = size // 4  # room for a caption of two lines
    n_pages = -(-len(images) // each)
    for page in range(n_pages):
        part = images[page * each : (page + 1) * each]
        figure = new_figure(8.3, 11.7)
        axis = figure.subplots()
        full = np.full((each, size, size), np.nan, np.float32)
        full[: len(part)] = part
        canvas = mosaic(full, columns, gap=gap, below=below, empty=np.nan)
        for k in range(len(part)):
            top, left = (k // columns) * (size + gap + below), (k % columns) * (size + gap)
            axis.text(
                left + size / 2, top + size + gap / 2,
                textwrap.fill(captions[page * each + k], 22), fontsize=5,
                ha="center", va="top",
            )  # fmt: skip
        axis.imshow(canvas, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(f"{title} {page + 1} of {n_pages}".strip(), fontsize=9)
        yield figure


def mosaic(
    images: np.ndarray, columns: int, *, gap: int = 2, below: int = 0, empty: float = 1.0
) -> np.ndarray:
    """Images side by side.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, size, size)
        Rows go up.
    columns : int
        Images in a row.
    gap, below : int
        Pixels between them, and more of them below each.
    empty : float
        Value of those.

    Returns
    -------
    numpy.ndarray of float32, shape (rows * (size + gap + below), columns * (size + gap))
        Rows go down.
    """
    n, size, _ = images.shape
    height, width = size + gap + below, size + gap
    canvas = np.full((-(-n // columns) * height, columns * width), empty, np.float32)
    for k, image in enumerate(images):
        top, left = (k // columns) * height, (k % columns) * width
        canvas[top : top + size, left : left + size] = image[::-1]
    return canvas


def film_frame(images: np.ndarray, text: str, *, columns: int = 8) -> np.ndarray:
    """Images side by side under a line of text, as one frame of a film.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, size, size)
        From 0 to 1.
    text : str
        Such as the epoch.
    columns : int
        Images in a row.

    Returns
    -------
    numpy.ndarray of float32, shape (height, width)
        From 0 to 1; rows go down.
    """
    from PIL import Image, ImageDraw

    canvas = mosaic(np.sqrt(np.clip(images, 0, 1)), columns)
    strip = Image.new("L", (canvas.shape[1], 14))
    ImageDraw.Draw(strip).text((2, 1), text, fill=255)
    return np.concatenate([np.asarray(strip, np.float32) / 255, canvas])


def sample_sheet(
    made: Sequence[np.ndarray], real: Sequence[np.ndarray], names: Sequence[str]
) -> Figure:
    """Made images of each class beside real ones.

    Parameters
    ----------
    made, real : sequence of numpy.ndarray, shape (n, size, size)
        By class, from 0 to 1.
    names : sequence of str
        Of the classes.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = max(map(len, made))
    figure = new_figure(10, 0.5 + 2.4 * len(names))
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in enumerate(names):
        for axis, images, title in zip(
            axes[row], (made, real), ("made", "training images"), strict=True
        ):
            part = images[row][:columns]
            # The square root shows faint lobes as the eye sees them in a survey's pictures.
            axis.imshow(mosaic(np.sqrt(np.clip(part, 0, 1)), 4), cmap="magma", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(title)
        axes[row, 0].set_ylabel(name)
    return figure


def histograms_figure(histograms: pd.DataFrame) -> Figure:
    """Histograms of training images and of others beside them.

    Parameters
    ----------
    histograms : pandas.DataFrame
        From `skyloom.evaluation.synthetic.image_histograms`, the training images first; may be
        empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    words = {
        "pixel": "pixels brighter than 0.1: brightness, brightest = 1",
        "flux": "flux: sum over the pixels",
        "area": "area: pixels above a tenth of the brightest",
        "spread": "spread: mean distance of the light from the middle (pixels)",
    }
    figure = new_figure(10, 6.5)
    axes = figure.subplots(2, 2)
    for axis, (quantity, label) in zip(axes.flat, words.items(), strict=True):
        part = histograms[histograms["quantity"] == quantity]
        for number, (name, one) in enumerate(part.groupby("images", sort=False)):
            edges = [*one["low"], one["high"].iloc[-1]]
            first = number == 0
            axis.stairs(
                one["share"], edges, fill=first, label=name, lw=1.5,
                color=GREY if first else CYCLE[(number - 1) % len(CYCLE)],
                alpha=0.5 if first else 1,
            )  # fmt: skip
        axis.set(xlabel=label, ylabel="share", ylim=(0, None))
    if len(histograms):
        legend_of_all(axes[0, 0], 4)
    return figure


def angles_figure(predictions: pd.DataFrame, scores: pd.DataFrame, n_bins: int = 6) -> Figure:
    """Bending angles: predicted against true, and the error by angle.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``configuration``, ``id``, ``target``, ``predicted`` (deg), where the angle is known.
    scores : pandas.DataFrame
        ``configuration`` in the order in which they are shown, ``kind`` (network or baseline).
    n_bins : int
        Of the angle, with equal numbers of sources.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(10, 4.6)
    if predictions.empty:
        axis = figure.subplots()
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no source has a known bending angle", ha="center")
        return figure
    left, right = figure.subplots(1, 2)
    known = predictions["target"]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, n_bins + 1)))
    for number, (_, score) in enumerate(scores.iterrows()):
        part = predictions[predictions["configuration"] == score["configuration"]]
        mean = part.groupby("id")[["target", "predicted"]].mean()
        colour = CYCLE[number % len(CYCLE)]
        if score["kind"] == "network" or score["configuration"] == "image moments":
            left.plot(mean["target"], mean["predicted"], ".", ms=3, alpha=0.6, color=colour)
        error = (part["predicted"] - part["target"]).abs()
        index = np.clip(np.searchsorted(edges, part["target"], "right") - 1, 0, len(edges) - 2)
        by_bin = error.groupby(index).mean()
        middle = part["target"].groupby(index).mean()
        right.plot(
            middle, by_bin, color=colour, marker="o", ms=4, label=score["configuration"],
            ls="-" if score["kind"] == "network" else "--",
        )  # fmt: skip
    top = max(known.max(), 1)
    left.plot([0, top], [0, top], color=GREY, lw=1)
    left.set(xlabel="true bending angle (deg)", ylabel="predicted, mean over seeds (deg)")
    right.set(xlabel="true bending angle (deg)", ylabel="mean absolute error (deg)", ylim=(0, None))
    legend_of_all(right, 4)
    return figure


def angle_curves_figure(curves: pd.DataFrame) -> Figure:
    """Errors of the regressors of the bending angle by epoch.

    Parameters
    ----------
    curves : pandas.DataFrame
        ``configuration``, ``epoch``, ``loss``, ``val_loss`` (deg^2), ``mae``, ``val_mae`` (deg).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(9, 4)
    axes = figure.subplots(1, 2)
    for axis, column, label in (
        (axes[0], "loss", "mean squared error (deg²)"),
        (axes[1], "mae", "mean absolute error (deg)"),
    ):  # fmt: skip
        for number, (name, part) in enumerate(curves.groupby("configuration", sort=False)):
            mean = part.groupby("epoch")[[column, f"val_{column}"]].mean()
            colour = CYCLE[number % len(CYCLE)]
            axis.plot(mean.index, mean[f"val_{column}"], color=colour, label=name)
            axis.plot(mean.index, mean[column], color=colour, ls=":")
        axis.set(xlabel="epoch", ylabel=label, yscale="log")
    if len(curves):
        legend_of_all(axes[0], 4, title="validation (dotted: training)")
    return figure


def angles_by_class_figure(angles: pd.DataFrame, names: Sequence[str]) -> Figure:
    """What is predicted for sources whose bending angle nobody has measured, by their class.

    Parameters
    ----------
    angles : pandas.DataFrame
        ``class`` (name), ``configuration`` and ``predicted`` (deg), one row for each source and
        configuration.
    names : sequence of str
        Classes in the order in which they are shown; those without such a source are left out.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(7, 4)
    axis = figure.subplots()
    names = [name for name in names if (angles["class"] == name).any()]
    arms = list(dict.fromkeys(angles["configuration"]))
    width = 0.8 / max(1, len(arms))
    for number, arm in enumerate(arms):
        parts = [
            angles[(angles["configuration"] == arm) & (angles["class"] == n)]["predicted"]
            for n in names
        ]
        place = np.arange(len(names)) + (number - (len(arms) - 1) / 2) * width
        filled = [(at, part) for at, part in zip(place, parts, strict=True) if len(part)]
        if filled:
            boxes = axis.boxplot(
                [part for _, part in filled], positions=[at for at, _ in filled],
                widths=0.8 * width, showfliers=False, whis=(5, 95), patch_artist=True,
                medianprops={"color": BLACK}, label=arm,
            )  # fmt: skip
            for box in boxes["boxes"]:
                box.set(facecolor=CYCLE[number % len(CYCLE)])
    axis.set_xticks(np.arange(len(names)), names)
    axis.set(ylabel="predicted bending angle (deg)\nbox: quartiles, whiskers: 5-95 %")
    if arms:
        legend_above(axis, 3, font_size=8)
    return figure
