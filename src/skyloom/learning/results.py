"""What came of a comparison: scores beside chance and baselines, differences, workbooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.measures import Measure, score_beside
from skyloom.evaluation.scores import (
    confusion_table,
    macro_f1_interval,
    paired_difference,
    success_interval,
)
from skyloom.learning.configurations import Sweep
from skyloom.learning.nested import (
    nested_predictions,
    nested_statistic,
    procedure_p_value,
    select_configurations,
)

NESTED = "nested: best of the inner folds"
ARM_COLUMNS = (
    "configuration", "kind", "success_rate", "success_rate_low", "success_rate_high", "macro_f1",
    "macro_f1_low", "macro_f1_high", "minus", "difference", "difference_low", "difference_high",
)  # fmt: skip


def scorer(
    baselines: pd.DataFrame, reference: str, measure: Measure, seed: int = 0
) -> Callable[[pd.DataFrame], dict[str, float]]:
    """Function that scores the predictions of one configuration beside a baseline.

    Parameters
    ----------
    baselines : pandas.DataFrame
        Predictions of classical methods, with ``configuration``.
    reference : str
        The one that the paired difference is to.
    measure : Measure
        What is asked of the objects.
    seed : int
        Of the permutation test and the bootstrap, the same for every configuration.

    Returns
    -------
    callable
        Predictions to the scores of `skyloom.evaluation.measures.score_beside`.
    """
    beside = baselines[baselines["configuration"] == reference]
    return lambda table: score_beside(measure, table, beside, np.random.default_rng(seed))


def score_comparison(
    network_predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    permutations: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    *,
    measure: Measure,
    score: Callable[[pd.DataFrame], dict[str, float]],
    label_source: str,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score the nested procedure, every configuration and the baselines on the same objects.

    Parameters
    ----------
    network_predictions, inner_scores, permutations : pandas.DataFrame
        From `skyloom.learning.comparison.compare_configurations`.
    baseline_predictions : pandas.DataFrame
        Of classical methods, with ``configuration``.
    measure : Measure
        What is asked of the objects.
    score : callable
        Scores of the predictions of one of them.
    label_source : str
        Where the truth comes from.

    Returns
    -------
    success_rates : pandas.DataFrame
        One row a configuration, first the nested procedure: ``configuration``, ``kind`` (nested,
        network or baseline), its scores, ``inner_score``, ``p_value_of`` (what was permuted, where
        there are classes) and ``label_source``.
    predictions : pandas.DataFrame
        Of all of them, with ``kind``.
    selection : pandas.DataFrame
        ``seed``, ``fold``, ``configuration``, ``score``: what each outer fold selected.
    """
    if inner_scores.empty:
        nothing = pd.DataFrame(columns=["configuration", "kind"])
        return nothing, network_predictions.assign(kind=[]), inner_scores[["seed", "fold"]]
    selected = select_configurations(inner_scores)
    nested = nested_predictions(network_predictions, selected).assign(configuration=NESTED)
    groups = {"nested": nested, "network": network_predictions, "baseline": baseline_predictions}
    # Not the mean of the groups at once, which rounds otherwise in its last digit.
    inner_means = {name: own["score"].mean() for name, own in inner_scores.groupby("configuration")}
    inner_means[NESTED] = selected["score"].mean()
    rows, parts = [], []
    for kind, group in groups.items():
        for name, table in group.groupby("configuration", sort=False):
            row = {"configuration": name, "kind": kind, **score(table)}
            if measure.has_classes:
                row["p_value_of"] = "these predictions"
                if kind == "nested" and len(permutations):
                    null = permutations[measure.name].to_numpy()
                    row["p_value"] = procedure_p_value(nested_statistic(nested, measure), null)
                    row["p_value_of"] = f"the whole procedure, {len(null)} shuffles"
            row["inner_score"] = np.nan if kind == "baseline" else inner_means[name]
            rows.append(row | {"label_source": label_source})
            parts.append(table.assign(kind=kind))
    return pd.DataFrame(rows), pd.concat(parts, ignore_index=True), selected


def best_baseline(scores: pd.DataFrame, measure: Measure) -> str:
    """The baseline that the nested procedure has to beat.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_comparison`.
    measure : Measure
        What was asked.

    Returns
    -------
    str
        Its name; of equals the first. Empty where there is none.
    """
    known = scores[(scores["kind"] == "baseline") & scores[measure.headline.name].notna()]
    if known.empty:
        return ""
    values = known.set_index("configuration")[measure.headline.name]
    return values.idxmax() if measure.larger_is_better else values.idxmin()


def compare_arms(
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    configurations: dict[str, dict[str, Any]],
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is gained by what a network is trained on, with intervals.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_comparison`; not empty.
    predictions : pandas.DataFrame
        From there.
    configurations : dict of str to dict
        By name; each has an ``arm`` among the values of its ``augmentation``.
    seed : int
        Of the bootstrap.

    Returns
    -------
    scores : pandas.DataFrame
        With the 95 % intervals of each recall, ``recall_<class>_low`` and ``_high`` (Wilson).
    arms : pandas.DataFrame
        `ARM_COLUMNS`, one row a network or baseline: with 95 % intervals (Wilson, or bootstrapped
        over objects), and the paired difference of the success rate to ``minus``: the network that
        differs in nothing but that it is trained on what the first one is, else the first one.
    """
    scores = scores.copy()
    n_classes = sum(column.startswith("recall_") for column in scores)
    tested = predictions.drop_duplicates(["configuration", "id"])
    counts = tested.groupby("configuration")["class"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(index=scores["configuration"], columns=range(n_classes), fill_value=0)
    for k in range(n_classes):
        ends = map(success_interval, scores[f"recall_{k}"], counts[k].to_numpy())
        scores[[f"recall_{k}_low", f"recall_{k}_high"]] = list(ends)
    rows, networks = [], scores[scores["kind"] != "nested"]
    minus = reference_networks(networks["configuration"].tolist(), configurations)
    for _, row in networks.iterrows():
        other = minus[row["configuration"]]
        reference = predictions[predictions["configuration"] == other]
        own = predictions[predictions["configuration"] == row["configuration"]]
        rng = np.random.default_rng(seed)
        # A search tries a configuration in one fold only.
        same = own.merge(reference[["seed", "id"]], on=["seed", "id"])
        beside = reference.merge(own[["seed", "id"]], on=["seed", "id"])
        apart = paired_difference(same, beside, rng) if len(same) else (np.nan,) * 3
        rows.append(
            (row["configuration"], row["kind"], row["success_rate"], row["success_low"],
             row["success_high"], row["macro_f1"], *macro_f1_interval(own, n_classes, rng),
             other, *apart)
        )  # fmt: skip
    return scores, pd.DataFrame(rows, columns=list(ARM_COLUMNS))


def reference_networks(
    names: Sequence[str], configurations: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """The network that each one is compared with.

    Parameters
    ----------
    names : sequence of str
        Of networks and baselines.
    configurations : dict of str to dict
        As in `compare_arms`; baselines have none.

    Returns
    -------
    dict of str to str
        By name: the network that differs in nothing but that it is trained on what the first one
        is, else the first one.
    """
    first = names[0]
    known = {name: configurations[name] for name in names if configurations.get(name)}
    if first not in known:
        return dict.fromkeys(names, first)

    def but_arm(content):
        return content | {"name": "", "augmentation": content["augmentation"] | {"arm": ""}}

    arm = known[first]["augmentation"]["arm"]
    found = dict.fromkeys(names, first)
    for name, content in known.items():
        alike = [
            other for other, values in known.items()
            if values["augmentation"]["arm"] == arm and but_arm(values) == but_arm(content)
        ]  # fmt: skip
        if alike and alike[0] != name:
            found[name] = alike[0]
    return found


def along_axis(
    arms: pd.DataFrame, sweep: Sweep, configurations: dict[str, dict[str, Any]]
) -> tuple[pd.DataFrame, str]:
    """Results by the value of a sweep's axis, where it has one of numbers.

    Parameters
    ----------
    arms : pandas.DataFrame
        From `compare_arms`.
    sweep : Sweep
        What was compared.
    configurations : dict of str to dict
        By name.

    Returns
    -------
    table : pandas.DataFrame
        The arms with ``value`` and ``series``; empty where no axis has numbers for values.
    axis : str
        What its parameter is, in its own words.
    """
    grid = sweep.parameters.grid or {}
    varied = [key for key, values in grid.items() if len(values) > 1]
    numeric = [
        key for key in varied
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in grid[key])
    ]  # fmt: skip
    if not numeric:
        return arms.iloc[:0].assign(value=[], series=[]), ""
    axis, rest = numeric[0], [key for key in varied if key != numeric[0]]

    def value_of(name, key):
        section, _, field = key.partition(".")
        return configurations[name][section][field]

    networks = arms[arms["kind"] == "network"]
    names = networks["configuration"]
    section, _, field = axis.partition(".")
    about = type(sweep.base).model_fields[section].annotation.model_fields[field].description
    return networks.assign(
        value=[value_of(name, axis) for name in names],
        series=[", ".join(str(value_of(name, key)) for key in rest) for name in names],
    ), f"{field}: {about.partition(';')[0]}" if about else field


def workbooks_of(
    predictions: pd.DataFrame, files: pd.DataFrame, about: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration: predictions, and their merge with labels and measurements.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From `score_comparison`.
    files : pandas.DataFrame
        ``id`` and ``file`` of each object.
    about : pandas.DataFrame
        ``id`` and whatever else is known of each object.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        Sheets ``predictions`` (file, id, class, probabilities, fold), ``merged`` and
        ``confusion`` by configuration.
    """
    workbooks = {}
    n_classes = sum(column.startswith("probability_") for column in predictions.columns)
    for name, part in predictions.groupby("configuration", sort=False):
        table = files.merge(part.drop(columns=["kind", "configuration"]), on="id", how="inner")
        workbooks[f"{file_name(name)}.xlsx"] = {
            "predictions": table,
            "merged": table.merge(about, on="id"),
            "confusion": confusion_table(part, n_classes),
        }
    return workbooks


def file_name(name: str) -> str:
    """Name of a configuration as a file can have it.

    Parameters
    ----------
    name : str
        Any.

    Returns
    -------
    str
    """
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
