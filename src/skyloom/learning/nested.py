"""Nested cross-validation: outer folds report, inner folds stop the training and select.

Every fit predicts the objects of its inner validation part and those of the outer test part.
Selection looks at the first only. The prediction of a configuration for a test object is the mean
over its networks from the inner folds, so nothing has to be fitted again; that is right for
probabilities, numbers, maps and scores alike. What a prediction says and what it is worth is left
to a `skyloom.evaluation.measures.Measure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skyloom.evaluation.measures import Measure
from skyloom.evaluation.splits import split_manifest
from skyloom.learning.tasks import FailedTask, Finished, Procedure, Result, Task


class Split(NamedTuple):
    """Rows of one inner fold, and the truth they are fitted with.

    Attributes
    ----------
    seed, fold, inner : int
        Which cross-validation, outer fold and inner fold.
    train, validation, test : numpy.ndarray of int
        Rows of the sample.
    truth : numpy.ndarray, shape (n_objects,)
        Of all rows. Classes are numbers, -1 for objects without one.
    """

    seed: int
    fold: int
    inner: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    truth: np.ndarray


class Outcome(NamedTuple):
    """What one configuration gave.

    Attributes
    ----------
    permutation : int
        0 for the true classes, else the number of the shuffle.
    name : str
        Of the configuration.
    configuration : object
        The configuration itself; None where its values did not go together.
    predictions : pandas.DataFrame
        Of outer test objects: ``seed``, ``fold``, ``row`` and the columns of the measure's table;
        empty where a fit failed.
    validation : pandas.DataFrame
        The same of inner validation objects, with ``inner``, each by one network.
    inner : pandas.DataFrame
        ``seed``, ``fold``, ``inner``, ``score`` (of the inner validation objects), ``best_epoch``.
    curves : pandas.DataFrame
        ``seed``, ``fold``, ``inner``, ``epoch``, the measure's curves and ``best_epoch``.
    error : str
        Of the first fit that failed, or empty.
    """

    permutation: int
    name: str
    configuration: Any
    predictions: pd.DataFrame
    validation: pd.DataFrame
    inner: pd.DataFrame
    curves: pd.DataFrame
    error: str


def splits_of(
    manifest: pd.DataFrame, row_of: pd.Series, truth: np.ndarray | None = None
) -> list[Split]:
    """Inner splits of a manifest as rows of the sample.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `skyloom.evaluation.splits.split_manifest`.
    row_of : pandas.Series
        Row of the sample by id.
    truth : numpy.ndarray, optional
        Of the rows of the sample; by default the classes of the manifest.

    Returns
    -------
    list of Split
    """
    if truth is None:
        truth = np.full(len(row_of), -1)
        objects = manifest.drop_duplicates("id")
        truth[row_of.loc[objects["id"]]] = objects["class"]
    splits = []
    for (seed, fold, inner), part in manifest.groupby(["seed", "fold", "inner"]):
        rows = {
            role: row_of.loc[part.loc[part["role"] == role, "id"]].to_numpy()
            for role in ("train", "validation", "test")
        }
        splits.append(Split(int(seed), int(fold), int(inner), **rows, truth=truth))
    return splits


def grid_procedure(
    family: Sequence[Any],
    splits: Sequence[Split],
    make_task: Callable[[Sequence[Any], Split], Task],
    measure: Measure,
    permutation: int = 0,
) -> Procedure:
    """Cross-validate configurations that share their training runs.

    Parameters
    ----------
    family : sequence of configurations
        That differ only in their number of epochs.
    splits : sequence of Split
        All inner folds.
    make_task : callable
        The fit of a family on a split.
    measure : Measure
        What is asked of the objects.
    permutation : int
        Of the classes in the splits.

    Yields
    ------
    list of Task, then an `Outcome` for each configuration
    """
    results = yield [make_task(family, split) for split in splits]
    for position, configuration in enumerate(family):
        yield Finished(_outcome(configuration, position, splits, results, measure, permutation))


def search_procedure(
    splits: Sequence[Split],
    suggest: Callable[[Any, str], Any],
    make_task: Callable[[Sequence[Any], Split], Task],
    measure: Measure,
    *,
    n_trials: int,
    n_parallel: int,
    n_startup: int,
    prune: bool,
    seed: int,
    permutation: int = 0,
) -> Procedure:
    """Search one outer fold with a tree-structured Parzen estimator.

    The search sees inner validation scores only. It asks for trials and is told of them in the
    same order whatever the workers do, so that a search that was stopped goes the same way again.

    Parameters
    ----------
    splits : sequence of Split
        Inner folds of one outer fold.
    suggest : callable
        Configuration from an Optuna trial and a name; raises ValueError where values do not go
        together.
    make_task, measure
        As in `grid_procedure`.
    n_trials, n_parallel, n_startup : int
        Configurations tried, asked for at a time, and drawn at random at first.
    prune : bool
        Stop a trial whose mean over its first inner folds is below the median of the others.
    seed : int
        Of the search.
    permutation : int
        Of the classes in the splits.

    Yields
    ------
    list of Task, and an `Outcome` for each trial

    References
    ----------
    Bergstra et al. (2011), NeurIPS 24; Akiba et al. (2019), KDD (Optuna).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fold = f"{splits[0].seed}.{splits[0].fold}"
    # Optuna calls some of its options experimental; they are covered by our tests.
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=n_startup, constant_liar=n_parallel > 1
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=n_startup)
        if prune
        else optuna.pruners.NopPruner(),
    )
    for first in range(0, n_trials, n_parallel):
        asked = []
        for number in range(first, min(first + n_parallel, n_trials)):
            trial = study.ask()
            try:
                asked.append((trial, suggest(trial, f"{fold}.{number + 1:02d}"), []))
            except ValueError as error:
                # As pruned, and not as failed: the estimator shall keep away from such values.
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                name = f"{fold}.{number + 1:02d}"
                yield Finished(_failure(None, name, permutation, f"ValueError: {error}"))
        running = list(asked)
        for step, split in enumerate(splits):
            results = yield [make_task([configuration], split) for _, configuration, _ in running]
            for (trial, _, done), result in zip(list(running), results or [], strict=True):
                done.append(result)
                if isinstance(result, FailedTask):
                    continue
                scores = [_score(r, 0, s, measure) for r, s in zip(done, splits, strict=False)]
                trial.report(float(np.mean(scores)), step)
            running = [
                (trial, configuration, done)
                for trial, configuration, done in running
                if not isinstance(done[-1], FailedTask)
                and (step + 1 == len(splits) or not trial.should_prune())
            ]
        for trial, configuration, done in asked:
            if isinstance(done[-1], FailedTask):
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                yield Finished(
                    _failure(configuration, configuration.name, permutation, done[-1].error)
                )
            elif len(done) < len(splits):
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                yield Finished(_failure(configuration, configuration.name, permutation, "pruned"))
            else:
                outcome = _outcome(configuration, 0, splits, done, measure, permutation)
                study.tell(trial, float(outcome.inner["score"].mean()))
                yield Finished(outcome)


def select_configurations(inner: pd.DataFrame) -> pd.DataFrame:
    """Configuration with the highest mean inner score, for each outer fold.

    Parameters
    ----------
    inner : pandas.DataFrame
        ``configuration``, ``seed``, ``fold``, ``inner``, ``score``; of equals the first is taken.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``fold``, ``configuration``, ``score``.
    """
    keys = ["seed", "fold", "configuration"]
    means = inner.groupby(keys, sort=False, as_index=False)["score"].mean()
    best = means.groupby(["seed", "fold"])["score"].idxmax()
    return means.loc[best].reset_index(drop=True)


def nested_predictions(predictions: pd.DataFrame, selected: pd.DataFrame) -> pd.DataFrame:
    """Predictions of whatever was selected in each outer fold.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of all configurations, with the column ``configuration``.
    selected : pandas.DataFrame
        From `select_configurations`.

    Returns
    -------
    pandas.DataFrame
        Without that column.
    """
    keys = ["seed", "fold", "configuration"]
    return predictions.merge(selected[keys], on=keys).drop(columns="configuration")


def _score(result: Result, position: int, split: Split, measure: Measure) -> float:
    """What the predictions for the inner validation objects are worth."""
    truth = split.truth[split.validation]
    score = measure.score(measure.table(truth, result["validation_prediction"][position]))
    # Without validation objects nothing speaks for a configuration, and the first one is taken.
    return -np.inf if np.isnan(score) else score


def _outcome(configuration, position, splits, results, measure, permutation) -> Outcome:
    failed = next((r for r in results if isinstance(r, FailedTask)), None)
    if failed is not None:
        return _failure(configuration, configuration.name, permutation, failed.error)
    validation, inner, curves, predictions = [], [], [], {}
    for split, result in zip(splits, results, strict=True):
        key = {"seed": split.seed, "fold": split.fold, "inner": split.inner}
        best = int(result["best_epoch"][position])
        score = _score(result, position, split, measure)
        inner.append(key | {"score": score, "best_epoch": best})
        history = pd.DataFrame(result["history"], columns=list(measure.curves))
        history = history.iloc[: int(result["lengths"][position])]
        curves.append(history.assign(epoch=np.arange(1, len(history) + 1), best_epoch=best, **key))
        table = _table(split, split.validation, result["validation_prediction"][position], measure)
        validation.append(table.assign(inner=split.inner))
        predictions.setdefault((split.seed, split.fold), []).append(
            result["test_prediction"][position]
        )
    outer = {(split.seed, split.fold): split for split in splits}
    tables = [
        _table(outer[key], outer[key].test, np.mean(parts, axis=0), measure)
        for key, parts in predictions.items()
    ]
    return Outcome(
        permutation,
        configuration.name,
        configuration,
        pd.concat(tables, ignore_index=True),
        pd.concat(validation, ignore_index=True),
        pd.DataFrame(inner),
        pd.concat(curves, ignore_index=True),
        "",
    )


def _table(split, rows, prediction, measure):
    """What is predicted for some rows of the sample."""
    table = measure.table(split.truth[rows], prediction)
    # The rows of the table need not be one for each object.
    about = pd.DataFrame(
        {"seed": split.seed, "fold": split.fold, "row": rows[table.index]}, index=table.index
    )
    return pd.concat([about, table], axis=1).reset_index(drop=True)


def _failure(configuration, name, permutation, error) -> Outcome:
    nothing = pd.DataFrame()
    return Outcome(permutation, name, configuration, *[nothing] * 4, error)


def families(configurations: Sequence[Any]) -> list[list[Any]]:
    """Groups of configurations that can share a training run.

    Parameters
    ----------
    configurations : sequence
        Each with a ``family`` that is equal for all that differ only in their epochs.

    Returns
    -------
    list of list
    """
    groups: dict[Any, list[Any]] = {}
    for configuration in configurations:
        groups.setdefault(configuration.family, []).append(configuration)
    return list(groups.values())


def permuted_manifest(manifest: pd.DataFrame, n_inner_folds: int, seed: int) -> pd.DataFrame:
    """Manifest of the same objects with their classes shuffled, split anew.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `skyloom.evaluation.splits.split_manifest`.
    n_inner_folds : int
        As it was made with.
    seed : int
        Of the shuffle.

    Returns
    -------
    pandas.DataFrame
    """
    objects = manifest.drop_duplicates("id")[["id", "group", "class", "sha256"]]
    # Groups are exchanged as a whole, with groups of their size: their objects are one thing.
    rng, classes = np.random.default_rng(seed), objects["class"].to_numpy()
    shuffled = classes.copy()
    members = list(objects.reset_index(drop=True).groupby("group", sort=False).indices.values())
    for size in sorted({len(rows) for rows in members}):
        rows = np.array([rows for rows in members if len(rows) == size])
        shuffled[rows] = classes[rng.permutation(rows)]
    return split_manifest(
        objects.assign(**{"class": shuffled}),
        n_folds=manifest["fold"].nunique(),
        n_inner_folds=n_inner_folds,
        seeds=[int(s) for s in manifest["seed"].unique()],
    )


def nested_statistic(predictions: pd.DataFrame, measure: Measure) -> float:
    """What the whole procedure is worth, mean over seeds.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From `nested_predictions`.
    measure : Measure
        By which the inner folds select, too.

    Returns
    -------
    float
    """
    return float(np.mean([measure.score(part) for _, part in predictions.groupby("seed")]))


def procedure_p_value(statistic: float, null: np.ndarray) -> float:
    """Share of shuffles, the true classes among them, that reach the statistic.

    Parameters
    ----------
    statistic : float
        Of the true classes.
    null : numpy.ndarray
        Of the shuffles, each from the whole procedure with its selection.

    Returns
    -------
    float
        NaN without shuffles.

    References
    ----------
    Mukherjee, Golland & Panchenko (2003); Ojala & Garriga (2010), JMLR 11, 1833.
    """
    if not len(null):
        return float("nan")
    return float((1 + np.sum(null >= statistic - 1e-12)) / (1 + len(null)))
