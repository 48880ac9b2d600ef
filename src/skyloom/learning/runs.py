"""What MLflow is told of a comparison: the run, and a child for each configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import skyloom
from skyloom.evaluation.measures import Measure
from skyloom.evaluation.report import data_fingerprint
from skyloom.learning.configurations import Configuration, Sweep
from skyloom.learning.results import NESTED, best_baseline, file_name


def run_parameters(
    configuration_type: type[Configuration],
    configuration: Configuration | None,
    name: str,
    kind: str,
) -> dict[str, Any]:
    """Parameters of a child run; the same keys for networks and baselines.

    Parameters
    ----------
    configuration_type : type of Configuration
        The study's own.
    configuration : Configuration or None
        None for a baseline.
    name, kind : str
        Of the run.

    Returns
    -------
    dict of str to value
    """
    values = {"configuration": name, "kind": kind}
    for section, names in configuration_type.swept.items():
        for field in names:
            value = getattr(getattr(configuration, section), field) if configuration else "none"
            values[field] = "-".join(map(str, value)) if isinstance(value, tuple) else value
    return values


def failed_run(
    configuration_type: type[Configuration],
    configuration: Configuration | None,
    name: str,
    error: str,
) -> dict[str, Any]:
    """Child run of a configuration that failed or was pruned.

    Parameters
    ----------
    configuration_type : type of Configuration
        The study's own.
    configuration : Configuration or None
        None where its values did not go together.
    name : str
        Of it.
    error : str
        Why.

    Returns
    -------
    dict
    """
    pruned = error == "pruned"
    return {
        "name": name,
        "params": run_parameters(configuration_type, configuration, name, "network"),
        "metrics": {},
        "curves": {},
        "tags": {"error": error},
        "status": "FINISHED" if pruned else "FAILED",
    }


def network_run(
    configuration: Configuration,
    measure: Measure,
    scores: dict[str, float],
    inner: pd.DataFrame,
    curves: pd.DataFrame,
) -> dict[str, Any]:
    """Child run of a configuration.

    Parameters
    ----------
    configuration : Configuration
        Which.
    measure : Measure
        What was asked.
    scores : dict of str to float
        Of its predictions.
    inner, curves : pandas.DataFrame
        Its results.

    Returns
    -------
    dict
        ``name``, ``params``, ``metrics`` and ``curves`` (metric name to a list over epochs, mean
        over folds), and the curves of each outer fold.
    """
    validated = measure.curves[-1]
    means = curves.groupby("epoch")[list(measure.curves)].mean()
    by_fold = curves.groupby(["seed", "fold", "epoch"])[validated].mean()
    return {
        "name": configuration.name,
        "params": run_parameters(type(configuration), configuration, configuration.name, "network"),
        "metrics": scores | {"inner_score": float(inner["score"].mean())},
        "curves": {f"epoch_{name}": means[name].tolist() for name in means}
        | {
            f"fold_{seed}.{fold}_{validated}": part.tolist()
            for (seed, fold), part in by_fold.groupby(["seed", "fold"])
        },
    }


def describe_children(
    configuration_type: type[Configuration],
    measure: Measure,
    scores: pd.DataFrame,
    inner: pd.DataFrame,
    curves: pd.DataFrame,
    outcome: dict[str, Any],
) -> list[dict[str, Any]]:
    """Child runs of all configurations and baselines, those that failed among them.

    Parameters
    ----------
    configuration_type : type of Configuration
        The study's own.
    measure : Measure
        What was asked.
    scores : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    inner, curves : pandas.DataFrame
        From `skyloom.learning.comparison.compare_configurations`.
    outcome : dict
        From there.

    Returns
    -------
    list of dict
        As `skyloom.tracking.ParentRun.log_child` takes them, each with the ``file`` of its
        workbook.
    """
    text = ("configuration", "kind", "label_source", "p_value_of", "inner_score")
    children = []
    for _, row in scores.iterrows():
        name = row["configuration"]
        metrics = {key: float(value) for key, value in row.items() if key not in text}
        if row["kind"] == "network":
            of_it = (table[table["configuration"] == name] for table in (inner, curves))
            configuration = configuration_type.model_validate(outcome["configurations"][name])
            child = network_run(configuration, measure, metrics, *of_it)
        else:
            params = run_parameters(configuration_type, None, name, row["kind"])
            child = {"name": name, "params": params, "metrics": metrics, "curves": {}}
        children.append(child | {"file": file_name(name)})
    for name, error in outcome["failed"].items():
        # None where no configuration of the name could even be made.
        configuration = outcome["configurations"][name]
        if configuration is not None:
            configuration = configuration_type.model_validate(configuration)
        child = failed_run(configuration_type, configuration, name, error)
        children.append(child | {"file": file_name(name)})
    return children


def describe_run(
    study: str,
    sweep: Sweep,
    objects: pd.DataFrame,
    manifest: pd.DataFrame,
    measure: Measure,
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    summary: str,
    params: dict[str, Any],
    children: list[dict[str, Any]],
    seed: int = 0,
) -> dict[str, Any]:
    """The run that holds the children, with what a user compares runs by.

    Parameters
    ----------
    study : str
        Name of the study.
    sweep : Sweep
        What was compared; the parameters of its base are those of the run, but for what it varies.
    objects : pandas.DataFrame
        Of the sample: ``id``, ``sha256``.
    manifest : pandas.DataFrame
        The split.
    measure : Measure
        What was asked.
    scores, predictions : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    summary : str
        The table that ends the run.
    params : dict of str to value
        Further ones of the run.
    children : list of dict
        From `describe_children`, and perhaps others.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``name``, ``tags``, ``params``, ``metrics``, ``dataset`` (name, source and digest),
        ``description`` (Markdown), ``columns`` (what is shown of a list of runs) and ``children``,
        as `skyloom.tracking.ParentRun.log_runs` takes them.
    """
    fingerprint = data_fingerprint(objects)
    metrics, baseline = parent_metrics(measure, scores, predictions, seed)
    label_source = scores["label_source"].iloc[0] if len(scores) else "none"
    return {
        "name": study,
        "tags": {
            "data_fingerprint": fingerprint,
            "label_source": label_source,
            "skyloom_version": skyloom.__version__,
        },
        "params": {
            "n_in_split": manifest["id"].nunique(),
            "n_classes": manifest["class"].nunique() if measure.has_classes else 0,
            "n_folds": manifest["fold"].nunique(),
            "n_inner_folds": manifest["inner"].nunique(),
            "seeds": [int(seed) for seed in manifest["seed"].unique()],
            "best_baseline": baseline,
            **base_parameters(sweep),
            **params,
        },
        "metrics": metrics,
        "dataset": {"name": study, "source": label_source, "digest": fingerprint[:32]},
        "description": f"```text\n{summary.strip()}\n```",
        "columns": [*metrics, "best_baseline"],
        "children": children,
    }


def base_parameters(sweep: Sweep) -> dict[str, Any]:
    """Parameters that all configurations of a sweep share, and which ones it varies.

    Parameters
    ----------
    sweep : Sweep
        Laid out.

    Returns
    -------
    dict of str to value
        By the name of the parameter; ``varied`` in place of a value that the sweep varies.
    """
    # A grid may set one value in place of that of the base.
    first = sweep.configurations[0] if sweep.configurations else sweep.base
    values = run_parameters(type(first), first, "all", "parent")
    axes, grid = sweep.parameters.axes, sweep.parameters.grid or {}
    varied = {axis.partition(".")[2]: "varied" for axis in axes if len(grid.get(axis, ())) != 1}
    return {"sweep": ", ".join(axes), **values, **varied}


def parent_metrics(
    measure: Measure, scores: pd.DataFrame, predictions: pd.DataFrame, seed: int
) -> tuple[dict[str, float], str]:
    """Scores of the nested procedure beside chance and the best baseline.

    Parameters
    ----------
    measure : Measure
        What was asked.
    scores, predictions : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    metrics : dict of str to float
        Empty where nothing was tested.
    baseline : str
        The best one, by the same test objects: it is not chosen beforehand, which is in its favour.
    """
    if scores.empty:
        return {}, "none"
    nested, name = scores.iloc[0], best_baseline(scores, measure)
    headline = measure.headline.name

    def of_nested(*keys):
        known = (key for key in keys if key in scores and np.isfinite(nested[key]))
        return {key: float(nested[key]) for key in known}

    # In the order in which a list of runs shows them.
    metrics = of_nested(headline, *measure.interval, "chance_level")
    if name:
        of = {each: predictions[predictions["configuration"] == each] for each in (NESTED, name)}
        rng = np.random.default_rng(seed)
        difference, low, high = measure.difference(of[NESTED], of[name], rng)
        metrics |= {
            f"baseline_{headline}": float(
                scores.loc[scores["configuration"] == name, headline].iloc[0]
            ),
            "minus_best_baseline": difference,
            "minus_best_baseline_low": low,
            "minus_best_baseline_high": high,
        }
    metrics |= of_nested("p_value", "n_objects")
    return metrics, name
