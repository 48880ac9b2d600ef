"""Figures of networks that make images or spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyloom.plots.style import BLACK, BLUE, CYCLE, ORANGE, RED, legend_above, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_ADVERSARIAL = ("generator", "discriminator", "binary cross-entropy")
_LOSSES = {"vae": ("reconstruction", "divergence", "nats an image")}


def generators_figure(history: pd.DataFrame, measures: dict[str, tuple[str, float]]) -> Figure:
    """Losses of the networks, and what was measured of their checkpoints.

    Parameters
    ----------
    history : pandas.DataFrame
        ``kind``, ``fold``, ``class``, ``epoch``, ``loss_1``, ``loss_2``, ``chosen`` and the
        measures; may be empty.
    measures : dict of str to tuple of (str, float)
        By column: what it is, and the value beyond which a checkpoint is of no use.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(9, 5.5)
    if history.empty:
        axis = figure.subplots()
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no such network was trained", ha="center")
        return figure
    kinds = list(dict.fromkeys(history["kind"]))
    above, below = figure.subfigures(2, 1)
    for axis, kind in zip(above.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        part = history[history["kind"] == kind]
        mean = part.groupby("epoch")[["loss_1", "loss_2"]].mean()
        *names, unit = _LOSSES.get(kind, _ADVERSARIAL)
        for column, name, colour in zip(mean, names, (BLUE, ORANGE), strict=True):
            axis.plot(mean.index, mean[column], color=colour, label=name)
        axis.set(xlabel="epoch", ylabel=unit)
        axis.set_title(f"{kind.replace('_', ' ')}: losses", pad=20)
        legend_above(axis, 2)
    axes = below.subplots(1, len(measures), squeeze=False)[0]
    for axis, (column, (label, limit)) in zip(axes, measures.items(), strict=True):
        known = history.dropna(subset=[column])
        for number, (kind, part) in enumerate(known.groupby("kind")):
            colour = CYCLE[number]
            for _, one in part.groupby(["fold", "class"]):
                axis.plot(one["epoch"], one[column], color=colour, marker="o", ms=3)
            best = part[part["chosen"]]
            axis.plot(best["epoch"], best[column], "*", color=colour, ms=12, mec=BLACK, label=kind)
        axis.axhline(limit, color=RED, ls="--", lw=1)
        axis.set(xlabel="epoch", ylabel=label, ylim=(0, None))
        if len(known):
            legend_above(axis, 3, title="star: chosen")
    return figure
