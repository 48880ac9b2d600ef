"""Figures of classification results: success rates, learning curves, confusion, examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skyloom.evaluation.report import Panel
from skyloom.evaluation.scores import confusion_tables
from skyloom.plots.style import (
    BLACK,
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SKY,
    empty_figure,
    legend_above,
    legend_of_all,
    new_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def success_rate_figure(scores: pd.DataFrame, objects: str = "objects") -> Figure:
    """Success rates with their 95 % intervals, and the chance level.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns ``configuration``, ``kind``, ``success_rate``, ``success_low``, ``success_high``,
        ``chance_level``; may be empty.
    objects : str
        What is classified, in the plural.

    Returns
    -------
    matplotlib.figure.Figure
    """
    height = 0.42 if len(scores) < 16 else 0.22
    figure = new_figure(7.5, 0.9 + height * max(len(scores), 2))
    axis = figure.subplots()
    if scores.empty:
        return empty_figure(figure, axis, "no network was trained")
    position = np.arange(len(scores))[::-1]
    rate = scores["success_rate"].to_numpy()
    errors = np.abs(scores[["success_low", "success_high"]].to_numpy().T - rate)
    for kind, colour in (("nested", GREEN), ("network", BLUE), ("baseline", ORANGE)):
        chosen = (scores["kind"] == kind).to_numpy()
        axis.barh(
            position[chosen],
            rate[chosen],
            xerr=errors[:, chosen],
            color=colour,
            height=0.7,
            capsize=3,
            label=kind,
        )
    chance = scores["chance_level"].iloc[0]
    axis.axvline(chance, color=RED, ls="--", lw=1.5, label=f"chance level {chance:.2f}")
    axis.set_yticks(position, scores["configuration"])
    axis.set(xlim=(0, 1), xlabel=f"success rate on unseen {objects}, 95 % interval")
    legend_above(axis, 4, font_size=8)
    return figure


def learning_curves_figure(curves: pd.DataFrame) -> Figure:
    """Loss and accuracy against epoch, one line an inner fold.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``configuration``, ``seed``, ``fold``, ``inner``, ``epoch``, ``loss``, ``accuracy``,
        ``val_loss``, ``val_accuracy``; may be empty.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(curves["configuration"].unique())
    figure = new_figure(max(5, 2.8 * len(names)), 4.6)
    if not names:
        return empty_figure(figure, figure.subplots(), "no network was trained")
    axes = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for column, name in enumerate(names):
        part = curves[curves["configuration"] == name]
        for row, measure in enumerate(("loss", "accuracy")):
            axis = axes[row, column]
            styles = (
                (measure, BLUE, "-", "training"),
                (f"val_{measure}", ORANGE, "--", "validation"),
            )
            for key, colour, style, label in styles:
                for k, (_, fold) in enumerate(part.groupby(["seed", "fold", "inner"])):
                    shown = label if k == 0 else None
                    axis.plot(
                        fold["epoch"],
                        fold[key],
                        color=colour,
                        ls=style,
                        lw=1,
                        alpha=0.8,
                        label=shown,
                    )
            axis.set_ylabel(measure if column == 0 else "")
        axes[0, column].set_title(name, fontsize=9)
        axes[1, column].set_xlabel("epoch")
    # One diverging fold must not hide the others.
    losses = curves[["loss", "val_loss"]].to_numpy()
    if np.isfinite(losses).any():
        axes[0, 0].set_ylim(0, np.percentile(losses[np.isfinite(losses)], 98) * 1.1)
    axes[1, 0].set_ylim(0, 1)
    legend_of_all(axes[0, 0], 2)
    return figure


def confusion_figure(
    matrices: dict[str, pd.DataFrame], names: Sequence[str], *, by: str = "true"
) -> Figure:
    """Confusion matrices.

    Parameters
    ----------
    matrices : dict of str to pandas.DataFrame
        From `skyloom.evaluation.scores.confusion_table`, by configuration; may be empty.
    names : sequence of str
        Class names.
    by : {"true", "predicted"}
        The class by which they are normalised.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(3, max(len(matrices), 1))
    rows = int(np.ceil(max(len(matrices), 1) / columns))
    figure = new_figure(2.9 * columns + 1, 2.9 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    if not matrices:
        return empty_figure(figure, axes[0], "no network was trained")
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    for axis, (title, matrix) in zip(axes, matrices.items(), strict=False):
        values = matrix.to_numpy()
        drawn = axis.imshow(values, cmap="cividis", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            colour = BLACK if value > 0.6 else "white"
            size = 8 if len(values) < 6 else 6
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=size)
        ticks = range(len(names))
        axis.set_xticks(ticks, names, rotation=30, ha="right", fontsize=6)
        axis.set_yticks(ticks, names, fontsize=6)
        axis.set_title(title, fontsize=8)
        axis.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(drawn, ax=list(axes), shrink=0.7, label=f"share of the {by} class")
    return figure


def choose_examples(
    predictions: pd.DataFrame, ids: Sequence[str], names: Sequence[str], n: int
) -> tuple[np.ndarray, list[tuple[str, bool]]]:
    """Some test objects of the first seed, classes in turn, for `sample_images_figure`.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``seed``, ``id``, ``class`` and ``predicted`` (numbers); may be empty.
    ids : sequence of str
        Of all objects.
    names : sequence of str
        Of the classes.
    n : int
        How many.

    Returns
    -------
    rows : numpy.ndarray of int
        Of the objects among all.
    titles : list of tuple of (str, bool)
        Id, true and predicted class; and whether they agree.
    """
    import pandas as pd

    if predictions.empty:
        return np.zeros(0, int), []
    first = predictions[predictions["seed"] == predictions["seed"].iloc[0]]
    turn = first.groupby("class").cumcount()
    chosen = first.assign(turn=turn).sort_values(["turn", "class"]).head(n)
    titles = [
        (
            f"{row['id']}\ntrue: {names[row['class']]}\nis: {names[row['predicted']]}",
            row["class"] == row["predicted"],
        )
        for _, row in chosen.iterrows()
    ]
    return pd.Index(ids).get_indexer(chosen["id"]), titles


def sample_images_figure(
    images: np.ndarray,
    titles: Sequence[tuple[str, bool]],
    show: Callable[[Axes, np.ndarray], object],
) -> Figure:
    """Grid of example images with true and predicted class.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, size, size, channels)
        Examples; may be empty.
    titles : sequence of (str, bool)
        Title and whether the prediction is right, by image.
    show : callable
        Draws one image on given axes.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(6, max(len(images), 1))
    rows = int(np.ceil(max(len(images), 1) / columns))
    figure = new_figure(1.5 * columns, 1.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    if not len(images):
        return empty_figure(figure, axes[0], "no network was trained")
    for axis, image, (title, right) in zip(axes, images, titles, strict=False):
        show(axis, image)
        axis.set_title(title, fontsize=6, color=BLACK if right else RED)
    return figure


def reliability_figure(predictions: pd.DataFrame, n_bins: int = 8) -> Figure:
    """Share of right predictions against the probability the network gave them.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``configuration``, ``class``, ``predicted``, ``probability_0`` ...; may be empty.
    n_bins : int
        Bins of equal numbers of objects.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.5, 4)
    axis = figure.subplots()
    if predictions.empty:
        return empty_figure(figure, axis, "no network was trained")
    columns = [c for c in predictions.columns if c.startswith("probability_")]
    for colour, (name, part) in zip(CYCLE, predictions.groupby("configuration"), strict=False):
        confidence = part[columns].max(axis=1).to_numpy()
        right = (part["class"] == part["predicted"]).to_numpy()
        bins = np.array_split(np.argsort(confidence), n_bins)
        bins = [b for b in bins if len(b)]
        x, y = ([values[b].mean() for b in bins] for values in (confidence, right))
        axis.plot(x, y, "o-", color=colour, lw=1, ms=4, label=name)
    axis.plot([0, 1], [0, 1], color=GREY, ls=":", label="calibrated")
    axis.set(xlabel="probability of the predicted class", ylabel="share that is right")
    axis.set(xlim=(0.2, 1), ylim=(0, 1))
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def arms_figure(arms: pd.DataFrame, reference: str) -> Figure:
    """Success rate and macro-F1 of each configuration, and what it gains over one of them.

    Parameters
    ----------
    arms : pandas.DataFrame
        ``configuration``, ``success_rate``, ``macro_f1``, ``difference``, each with ``_low`` and
        ``_high``; may be empty.
    reference : str
        What the difference is to.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(10, 1.5 + 0.4 * max(len(arms), 2))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    position = np.arange(len(arms))[::-1].astype(float)
    for column, label, colour, shift in (
        ("success_rate", "success rate", BLUE, 0.12), ("macro_f1", "macro-F1", ORANGE, -0.12),
    ):  # fmt: skip
        _points(left, arms, column, position + shift, colour, label)
    _points(right, arms, "difference", position, BLUE, None)
    right.axvline(0, color=RED, ls="--", lw=1)
    left.set_yticks(position, arms["configuration"])
    left.set(xlabel="on test objects, mean over seeds, 95 % interval")
    right.set(xlabel=f"success rate minus that of\n{reference}, 95 % paired")
    if len(arms):
        legend_above(left, 2, font_size=8)
    return figure


def _points(axis, table, column, position, colour, label):
    value = table[column].to_numpy(float)
    low, high = (table[f"{column}_{end}"].to_numpy(float) for end in ("low", "high"))
    axis.errorbar(
        value, position, xerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)], fmt="o",
        color=colour, capsize=3, label=label,
    )  # fmt: skip


def axis_figure(arms: pd.DataFrame, axis_name: str) -> Figure:
    """Success rate and macro-F1 along one numeric axis of a study.

    Parameters
    ----------
    arms : pandas.DataFrame
        As of `arms_figure`, with ``value`` and ``series`` (a line for each).
    axis_name : str
        Of the horizontal axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(9, 4)
    axes = figure.subplots(1, 2)
    for axis, column, label in (
        (axes[0], "success_rate", "success rate"), (axes[1], "macro_f1", "macro-F1"),
    ):  # fmt: skip
        for number, (name, part) in enumerate(arms.groupby("series", sort=False)):
            ordered = part.sort_values("value")
            low, high = (ordered[f"{column}_{end}"] for end in ("low", "high"))
            axis.errorbar(
                ordered["value"], ordered[column], marker="o", capsize=3, label=name or None,
                yerr=[ordered[column] - low, high - ordered[column]],
                color=CYCLE[number % len(CYCLE)],
            )  # fmt: skip
        axis.set(xlabel=axis_name, ylabel=f"{label}, 95 % interval")
    if arms["series"].any():
        legend_of_all(axes[0], 3)
    return figure


def audit_figure(
    fits: pd.DataFrame, null: pd.DataFrame, labels: dict[str, str], n_classes: int
) -> Figure:
    """Success rates of the published protocol on true and on shuffled classes.

    Parameters
    ----------
    fits : pandas.DataFrame
        ``labels`` and ``relabeled_success_rate`` of every fit; may be empty.
    null : pandas.DataFrame
        ``labels``, ``relabeled``, ``one`` and ``best``: success rate of one fit and of the best of
        the grid, for many shuffles of the classes.
    labels : dict of str to str
        Kinds of training labels in words; the first two get a panel each, the others none.
    n_classes : int
        For the chance level.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(9, 4)
    if fits.empty:
        return empty_figure(figure, figure.subplots(), "the published protocol was not run")
    kinds = [kind for kind in ("random", "true") if kind in set(fits["labels"])]
    axes = figure.subplots(1, len(kinds), sharex=True, squeeze=False)[0]
    values = np.concatenate([fits["relabeled_success_rate"].dropna(), null["one"].dropna()])
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    bins = np.linspace(low - 0.01, high + 0.01, 26)
    for axis, kind in zip(axes, kinds, strict=True):
        rates = fits.loc[fits["labels"] == kind, "relabeled_success_rate"].dropna()
        shuffled = null[(null["labels"] == kind) & null["relabeled"].astype(bool)].dropna()
        for shown, colour, hatch, label in (
            (shuffled["one"], GREY, "", f"fits, shuffled classes ({len(shuffled)} shuffles)"),
            (rates, SKY, "//", f"fits, true classes ({len(rates)})"),
        ):
            weights = np.full(len(shown), 1 / max(len(shown), 1))
            axis.hist(
                shown, bins, weights=weights, color=colour, alpha=0.7, hatch=hatch, label=label,
                edgecolor="white",
            )  # fmt: skip
        if len(shuffled):
            low, median, high = np.percentile(shuffled["best"], [5, 50, 95])
            axis.axvspan(low, high, color=ORANGE, alpha=0.25, lw=0)
            label = f"best of the grid, shuffled classes: {median:.3f} (5-95 %: shaded)"
            axis.axvline(median, color=ORANGE, ls="-.", lw=2, label=label)
        if len(rates):
            label = f"best of the grid, true classes: {rates.max():.3f}"
            axis.axvline(rates.max(), color=BLUE, lw=2.5, label=label)
        chance = 1 / n_classes
        axis.axvline(chance, color=RED, ls="--", lw=1.5, label=f"one in {n_classes}")
        axis.set_title(labels[kind], fontsize=9)
        axis.set_xlabel("success rate after the best relabeling")
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.16))
    axes[0].set_ylabel("share of the fits")
    return figure


def permutation_figure(statistic: float, null: np.ndarray, n_classes: int) -> Figure:
    """Balanced accuracy of the whole procedure on true and on shuffled classes.

    Parameters
    ----------
    statistic : float
        On the true classes.
    null : numpy.ndarray
        On shuffled classes; may be empty.
    n_classes : int
        For the chance level.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6, 3.4)
    axis = figure.subplots()
    if not len(null):
        return empty_figure(figure, axis, "no shuffles were asked for (sweep.n_permutations)")
    axis.hist(null, bins=min(30, max(5, len(null) // 3)), color=GREY, label=f"{len(null)} shuffles")
    axis.axvline(statistic, color=BLUE, lw=2.5, label=f"true classes: {statistic:.3f}")
    axis.axvline(1 / n_classes, color=RED, ls="--", lw=1.5, label=f"one in {n_classes}")
    axis.set(xlabel="balanced accuracy of the nested procedure", ylabel="shuffles")
    legend_above(axis, 3)
    return figure


def class_panels(
    scores: pd.DataFrame,
    arms: pd.DataFrame | None,
    predictions: pd.DataFrame,
    curves: pd.DataFrame,
    names: Sequence[str],
    *,
    objects: str,
    shown: Sequence[str],
    hidden: Sequence[str],
) -> dict[str, Panel]:
    """Figures that every comparison of classifiers has.

    Parameters
    ----------
    scores, arms, predictions : pandas.DataFrame
        From `skyloom.learning.results`; ``arms`` is None where there are none to be compared.
    curves : pandas.DataFrame
        Of the trainings.
    names : sequence of str
        Of the classes.
    objects : str
        What is classified, in the plural.
    shown : sequence of str
        Configurations with a line or a panel of their own.
    hidden : sequence of str
        Configurations without a confusion matrix.

    Returns
    -------
    dict of str to skyloom.evaluation.report.Panel
        By the name of the figure.
    """
    matrices = confusion_tables(predictions, len(names), shown=shown, hidden=hidden)
    drawn = predictions[predictions["configuration"].isin(shown)]
    panels = {"success_rate_figure": Panel("Success rates", success_rate_figure(scores, objects))}
    if arms is not None:
        minus = arms["minus"].unique()
        references = minus[0] if len(minus) == 1 else "its reference (see the table)"
        panels["arms_figure"] = Panel(
            f"Networks and baselines on the same test {objects}", arms_figure(arms, references)
        )
    return panels | {
        "learning_curves_figure": Panel(
            "Learning curves", learning_curves_figure(curves[curves["configuration"].isin(shown)])
        ),
        "confusion_figure": Panel(
            "Confusion matrices, normalised by true class", confusion_figure(matrices, names)
        ),
        "reliability_figure": Panel("Reliability of the probabilities", reliability_figure(drawn)),
    }
