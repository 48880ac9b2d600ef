"""Configurations compared on the same splits: nested cross-validation, selection included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.compute import ClusterParameters
from skyloom.evaluation.measures import Measure
from skyloom.learning.configurations import Sweep
from skyloom.learning.nested import (
    Outcome,
    Split,
    families,
    grid_procedure,
    nested_predictions,
    nested_statistic,
    permuted_manifest,
    search_procedure,
    select_configurations,
    splits_of,
)
from skyloom.learning.runs import failed_run, network_run
from skyloom.learning.tasks import Result, ResultStore, Task, run_all

INNER_COLUMNS = ("configuration", "seed", "fold", "inner", "score", "best_epoch")


class Comparison(NamedTuple):
    """What came of all configurations.

    Attributes
    ----------
    predictions : pandas.DataFrame
        Of outer test objects: ``configuration``, ``seed``, ``fold``, ``id`` and the columns of
        the measure's table.
    inner : pandas.DataFrame
        Scores of the inner folds, which alone select.
    curves : pandas.DataFrame
        Loss and metric of each epoch.
    permutations : pandas.DataFrame
        ``permutation``, and what the whole procedure is worth on shuffled classes.
    validation : pandas.DataFrame
        Predictions of inner validation objects by the configuration chosen for new objects.
    outcome : dict
        ``chosen`` (that configuration, its epochs in place of their limit), ``configurations``
        (all, by name), and ``failed`` (error by name).
    """

    predictions: pd.DataFrame
    inner: pd.DataFrame
    curves: pd.DataFrame
    permutations: pd.DataFrame
    validation: pd.DataFrame
    outcome: dict[str, Any]


def no_comparison(measure: Measure) -> Comparison:
    """What there is where nothing could be trained.

    Parameters
    ----------
    measure : Measure
        What would have been asked.

    Returns
    -------
    Comparison
        Empty tables with their columns.
    """
    predictions, inner, curves, null = (
        pd.DataFrame(columns=list(columns))
        for columns in (
            ("configuration", "seed", "fold", "id", *measure.table_columns),
            INNER_COLUMNS,
            ("configuration", "seed", "fold", "inner", "epoch", *measure.curves, "best_epoch"),
            ("permutation", measure.name),
        )
    )
    outcome = {"chosen": None, "configurations": {}, "failed": {}}
    return Comparison(predictions, inner, curves, null, predictions, outcome)


def make_task(
    settings_of: Callable[[Sequence[Any], int, int], dict[str, Any]],
    inputs: Sequence[str],
    seed: int,
    measure: Measure,
    family: Sequence[Any],
    split: Split,
) -> Task:
    """The fit of some configurations on one inner fold.

    Parameters
    ----------
    settings_of : callable
        Everything but the data that the fit depends on: ``settings_of(family, fold, seed)``.
    inputs : sequence of str
        Which of those settings name shared inputs; a setting that is None names none.
    seed : int
        Of the sweep; each split has its own from it.
    measure : Measure
        What is asked of the objects.
    family : sequence of Configuration
        That differ only in their number of epochs.
    split : Split
        The inner fold.

    Returns
    -------
    Task
    """
    key = [seed, split.seed, split.fold, split.inner]
    # Keras takes seeds below 2^31 / 1000, for the network spends a thousand of them.
    settings = settings_of(family, split.fold, int(np.random.default_rng(key).integers(2**20)))
    arrays = {"train": split.train, "validation": split.validation, "test": split.test}
    if measure.target is not None:
        for role in ("train", "validation"):
            arrays[f"{role}_targets"] = measure.target(split.truth[arrays[role]])
    used = [settings[name] for name in inputs]
    return Task(settings, arrays, tuple(name for name in used if name))


def compare_configurations(
    sweep: Sweep,
    manifest: pd.DataFrame,
    ids: np.ndarray,
    shared: dict[str, Any],
    settings_of: Callable[[Sequence[Any], int, int], dict[str, Any]],
    work: Callable[..., Result],
    store: ResultStore,
    cluster: ClusterParameters,
    *,
    inputs: Sequence[str],
    measure: Measure,
    score: Callable[[pd.DataFrame], dict[str, float]],
    log: Callable[[dict[str, Any]], None],
    truth: np.ndarray | None = None,
    n_inner_folds: int = 1,
    about: str = "sweep",
) -> Comparison:
    """Cross-validate every configuration, and where it is asked for the whole on shuffled classes.

    Parameters
    ----------
    sweep : Sweep
        What is compared.
    manifest : pandas.DataFrame
        The split, with the classes where there are any.
    ids : numpy.ndarray of str
        Of the rows of the shared arrays.
    shared : dict of str to object
        What the fits read, by name.
    settings_of, inputs
        As in `make_task`.
    work : callable
        Fits a family on a split: ``work(settings, arrays, shared, threads=n)``, see
        `skyloom.learning.fitting.fit_on_split`.
    store : ResultStore
        Where finished fits are kept; what is there is not fitted again.
    cluster : ClusterParameters
        ``cluster``.
    measure : Measure
        What is asked of the objects, and by what configurations are selected.
    score : callable
        Scores of the predictions of a configuration, for its run.
    log : callable
        Told of the run of each configuration as it is finished.
    truth : numpy.ndarray, optional
        Of the rows of the shared arrays; by default the classes of the manifest.
    n_inner_folds : int
        Of the manifest, for the shuffles.
    about : str
        What the bar in the terminal is called.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If shuffles are asked for where there are no classes.
    RuntimeError
        If every configuration failed.
    """
    if manifest.empty:
        return no_comparison(measure)
    n_permutations = sweep.parameters.n_permutations
    if n_permutations and not measure.has_classes:
        msg = f"n_permutations must be 0: by {measure.words} there are no classes to be shuffled"
        raise ValueError(msg)
    row_of = pd.Series(np.arange(len(ids)), index=ids)
    fit = partial(make_task, settings_of, inputs, sweep.parameters.seed, measure)
    procedures = _procedures(sweep, splits_of(manifest, row_of, truth), fit, measure, 0)
    for number in range(1, n_permutations + 1):
        shuffled = permuted_manifest(manifest, n_inner_folds, sweep.parameters.seed + number)
        procedures += _procedures(sweep, splits_of(shuffled, row_of), fit, measure, number)

    progress = _Progress(measure, about)
    gathered = _Gathered(measure, ids, type(sweep.base), score, log)
    for outcome in run_all(
        procedures, work, shared, store, cluster,
        size=max(member.size for member in sweep.members), on_task=progress.task,
    ):  # fmt: skip
        inner = gathered.add(outcome)
        if inner is not None:
            progress.finished(inner)
    progress.close()
    return gathered.comparison()


class _Gathered:
    """What came of the configurations, in whatever order they are finished."""

    def __init__(self, measure, ids, configuration_type, score, log) -> None:
        self._measure, self._ids = measure, ids
        self._configuration_type = configuration_type
        self._score, self._log = score, log
        self._nothing = no_comparison(measure)
        self._tables = {
            name: [getattr(self._nothing, name)] for name in ("predictions", "inner", "curves")
        }
        self._validations: dict[str, pd.DataFrame] = {}
        self._configurations: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        self._shuffled: dict[int, list[Outcome]] = {}

    def add(self, outcome: Outcome) -> pd.DataFrame | None:
        """Keep one outcome and tell of it; answers with its inner scores, where it has any."""
        if outcome.permutation:
            self._shuffled.setdefault(outcome.permutation, []).append(outcome)
            return None
        name, configuration = outcome.name, outcome.configuration
        self._configurations[name] = configuration and configuration.model_dump(mode="json")
        if outcome.error:
            self._failed[name] = outcome.error
            self._log(failed_run(self._configuration_type, configuration, name, outcome.error))
            return None
        table, self._validations[name] = (
            part.assign(configuration=name, id=self._ids[part["row"]]).drop(columns="row")
            for part in (outcome.predictions, outcome.validation)
        )
        inner = outcome.inner.assign(configuration=name)
        curves = outcome.curves.assign(configuration=name)
        self._tables["predictions"].append(table)
        self._tables["inner"].append(inner[list(INNER_COLUMNS)])
        self._tables["curves"].append(curves[list(self._nothing.curves.columns)])
        self._log(network_run(configuration, self._measure, self._score(table), inner, curves))
        return inner

    def comparison(self) -> Comparison:
        """All of it, sorted by configuration: which one was finished first is an accident."""
        predictions, inner, curves = (_joined(part) for part in self._tables.values())
        if inner.empty:
            msg = f"every configuration failed: {self._failed}"
            raise RuntimeError(msg)
        chosen = _chosen(inner, self._configurations)
        order = {name: number for number, name in enumerate(sorted(self._configurations))}
        by_name = {"key": lambda names: names.map(order), "kind": "stable", "ignore_index": True}
        null = [
            (number, _statistic(outcomes, self._measure))
            for number, outcomes in sorted(self._shuffled.items())
            if any(not outcome.error for outcome in outcomes)
        ]
        return Comparison(
            *(
                table.sort_values("configuration", **by_name)
                for table in (predictions, inner, curves)
            ),
            pd.DataFrame(null, columns=list(self._nothing.permutations.columns)),
            self._validations[chosen["name"]],
            {
                "chosen": chosen,
                "configurations": dict(sorted(self._configurations.items())),
                "failed": self._failed,
            },
        )


def _chosen(inner, configurations):
    """The configuration for new objects, its epochs in place of their limit."""
    name = inner.groupby("configuration")["score"].mean().idxmax()
    epochs = int(inner.loc[inner["configuration"] == name, "best_epoch"].median())
    content = configurations[name]
    return content | {"training": content["training"] | {"epochs": epochs}}


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _statistic(outcomes: list[Outcome], measure: Measure) -> float:
    """What the nested procedure is worth on one shuffle of the classes."""
    done = sorted((o for o in outcomes if not o.error), key=lambda o: o.name)
    inner = pd.concat([o.inner.assign(configuration=o.name) for o in done])
    predictions = pd.concat([o.predictions.assign(configuration=o.name) for o in done])
    selected = select_configurations(inner.reset_index(drop=True))
    return nested_statistic(nested_predictions(predictions, selected), measure)


def _procedures(sweep: Sweep, splits: list[Split], fit, measure, permutation: int) -> list[Any]:
    if sweep.parameters.search is None:
        return [
            grid_procedure(family, splits, fit, measure, permutation)
            for family in families(sweep.configurations)
        ]
    search = sweep.parameters.search
    outer: dict[tuple[int, int], list[Split]] = {}
    for split in splits:
        outer.setdefault((split.seed, split.fold), []).append(split)
    return [
        search_procedure(
            parts,
            sweep.suggest,
            fit,
            measure,
            **search.model_dump(exclude={"space", "seed"}),
            seed=int(np.random.default_rng([search.seed, *key, permutation]).integers(2**31)),
            permutation=permutation,
        )
        for key, parts in outer.items()
    ]


class _Progress:
    """Bar with the best configuration so far, by inner scores, and the chance level."""

    def __init__(self, measure: Measure, about: str) -> None:
        self._measure = measure
        self._best = (-np.inf, "")
        self._bar = tqdm(desc=about, unit="fit", total=0)
        self._show()

    def task(self, done: int, known: int) -> None:
        self._bar.total = known
        self._bar.update(done - self._bar.n)

    def finished(self, inner: pd.DataFrame) -> None:
        self._best = max(self._best, (inner["score"].mean(), inner["configuration"].iloc[0]))
        self._show()

    def _show(self) -> None:
        (score, name), chance = self._best, self._measure.chance
        best = f"{score:.3f} ({name})" if np.isfinite(score) else "not known"
        known = f", chance {chance:.3f}" if np.isfinite(chance) else ""
        self._bar.set_postfix_str(f"best inner {self._measure.words} {best}{known}")

    def close(self) -> None:
        self._bar.close()
