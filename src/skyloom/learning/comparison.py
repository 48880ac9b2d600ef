"""Configurations compared on the same splits: how they are run, scored and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.compute import ClusterParameters, connect
from skyloom.evaluation.scores import (
    confusion_table,
    macro_f1_interval,
    paired_difference,
    score_beside,
    success_interval,
)
from skyloom.learning.configurations import Configuration, Sweep
from skyloom.learning.nested import (
    CURVES,
    Outcome,
    Split,
    families,
    grid_procedure,
    nested_predictions,
    nested_statistic,
    permuted_manifest,
    procedure_p_value,
    search_procedure,
    select_configurations,
    splits_of,
)
from skyloom.learning.sweep import Result, ResultStore, Task, run_procedures

NESTED = "nested: best of the inner folds"
PREDICTION_COLUMNS = ("configuration", "seed", "fold", "id", "class", "predicted")
INNER_COLUMNS = ("configuration", "seed", "fold", "inner", "score", "best_epoch")
ARM_COLUMNS = (
    "configuration", "kind", "success_rate", "success_rate_low", "success_rate_high", "macro_f1",
    "macro_f1_low", "macro_f1_high", "minus", "difference", "difference_low", "difference_high",
)  # fmt: skip
CURVE_COLUMNS = ("configuration", "seed", "fold", "inner", "epoch", *CURVES, "best_epoch")


class Comparison(NamedTuple):
    """What came of all configurations.

    Attributes
    ----------
    predictions : pandas.DataFrame
        Of outer test objects: ``configuration``, ``seed``, ``fold``, ``id``, ``class``,
        ``predicted``, ``probability_0`` ...
    inner : pandas.DataFrame
        Scores of the inner folds, which alone select.
    curves : pandas.DataFrame
        Loss and accuracy of each epoch.
    permutations : pandas.DataFrame
        ``permutation``, ``balanced_accuracy`` of the whole procedure on shuffled classes.
    validation : pandas.DataFrame
        Predictions of inner validation objects by the configuration chosen for new objects.
    sweep : dict
        ``chosen`` (that configuration, its epochs in place of their limit), ``configurations``
        (all, by name), and ``failed`` (error by name).
    """

    predictions: pd.DataFrame
    inner: pd.DataFrame
    curves: pd.DataFrame
    permutations: pd.DataFrame
    validation: pd.DataFrame
    sweep: dict[str, Any]


def no_comparison() -> Comparison:
    """What there is where nothing could be trained.

    Returns
    -------
    Comparison
        Empty tables with their columns.
    """
    predictions, inner, curves = (
        pd.DataFrame(columns=list(columns))
        for columns in (PREDICTION_COLUMNS, INNER_COLUMNS, CURVE_COLUMNS)
    )
    null = pd.DataFrame(columns=["permutation", "balanced_accuracy"])
    found = {"chosen": None, "configurations": {}, "failed": {}}
    return Comparison(predictions, inner, curves, null, predictions, found)


def make_task(
    settings_of: Callable[[Sequence[Any], Split, int], dict[str, Any]],
    inputs: Sequence[str],
    seed: int,
    family: Sequence[Any],
    split: Split,
) -> Task:
    """The fit of some configurations on one inner fold.

    Parameters
    ----------
    settings_of : callable
        Everything but the data that the fit depends on, from the family, the split and the seed
        of the fit.
    inputs : sequence of str
        Which of those settings name shared inputs; a setting that is None names none.
    seed : int
        Of the sweep; each split has its own from it.
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
    settings = settings_of(family, split, int(np.random.default_rng(key).integers(2**20)))
    arrays = {
        "train": split.train,
        "validation": split.validation,
        "test": split.test,
        "train_classes": split.classes[split.train].astype(np.int32),
        "validation_classes": split.classes[split.validation].astype(np.int32),
    }
    used = [settings[name] for name in inputs]
    return Task(settings, arrays, tuple(name for name in used if name))


def compare_configurations(
    sweep: Sweep,
    manifest: pd.DataFrame,
    ids: np.ndarray,
    shared: dict[str, Any],
    make_task: Callable[[Sequence[Any], Split], Task],
    work: Callable[..., Result],
    store: ResultStore,
    cluster: ClusterParameters,
    *,
    code: str,
    score: Callable[[pd.DataFrame], dict[str, float]],
    log: Callable[[dict[str, Any]], None],
    n_inner_folds: int = 1,
) -> Comparison:
    """Cross-validate every configuration, and the whole on shuffled classes.

    Parameters
    ----------
    sweep : Sweep
        What is compared.
    manifest : pandas.DataFrame
        The split, with the classes.
    ids : numpy.ndarray of str
        Of the rows of the shared arrays.
    shared : dict of str to object
        What the fits read, by name.
    make_task : callable
        The fit of a family on a split.
    work : callable
        Does it: ``work(settings, arrays, shared, threads=n)``.
    store : ResultStore
        Where finished fits are kept; what is there is not fitted again.
    cluster : ClusterParameters
        ``cluster``.
    code : str
        Digest of the code of a fit.
    score : callable
        Scores of the predictions of a configuration, for its run.
    log : callable
        Told of the run of each configuration as it is finished.
    n_inner_folds : int
        Of the manifest, for the shuffles.

    Returns
    -------
    Comparison

    Raises
    ------
    RuntimeError
        If every configuration failed.
    """
    if manifest.empty:
        return no_comparison()
    row_of = pd.Series(np.arange(len(ids)), index=ids)
    procedures = _procedures(sweep, splits_of(manifest, row_of), make_task, 0)
    for number in range(1, sweep.parameters.n_permutations + 1):
        shuffled = permuted_manifest(manifest, n_inner_folds, sweep.parameters.seed + number)
        procedures += _procedures(sweep, splits_of(shuffled, row_of), make_task, number)

    nothing = no_comparison()
    found = nothing.sweep
    tables = {name: [getattr(nothing, name)] for name in ("predictions", "inner", "curves")}
    validations: dict[str, pd.DataFrame] = {}
    shuffled_outcomes: dict[int, list[Outcome]] = {}
    progress = _Progress(manifest)
    with connect(cluster, max(m.features.size for m in sweep.members)) as (client, threads):
        for outcome in run_procedures(
            procedures, partial(work, threads=threads), shared, store, client,
            code=code, on_task=progress.task,
        ):  # fmt: skip
            if outcome.permutation:
                shuffled_outcomes.setdefault(outcome.permutation, []).append(outcome)
                continue
            name, configuration = outcome.name, outcome.configuration
            found["configurations"][name] = configuration and configuration.model_dump(mode="json")
            if outcome.error:
                found["failed"][name] = outcome.error
                log(failed_run(type(sweep.base), configuration, name, outcome.error))
                continue
            table = outcome.predictions.assign(configuration=name, id=ids[outcome.predictions.row])
            inner = outcome.inner.assign(configuration=name)
            curves = outcome.curves.assign(configuration=name)
            validations[name] = outcome.validation.assign(
                configuration=name, id=ids[outcome.validation.row]
            ).drop(columns="row")
            tables["predictions"].append(table.drop(columns="row"))
            tables["inner"].append(inner[list(INNER_COLUMNS)])
            tables["curves"].append(curves[list(CURVE_COLUMNS)])
            progress.finished(inner)
            log(network_run(configuration, score(table), inner, curves))
    progress.close()
    predictions, inner, curves = (_joined(part) for part in tables.values())
    if inner.empty:
        msg = f"every configuration failed: {found['failed']}"
        raise RuntimeError(msg)
    null = pd.DataFrame(
        [
            (number, _statistic(outcomes))
            for number, outcomes in sorted(shuffled_outcomes.items())
            if any(not outcome.error for outcome in outcomes)
        ],
        columns=list(nothing.permutations.columns),
    )
    chosen = inner.groupby("configuration")["score"].mean().idxmax()
    epochs = int(inner.loc[inner["configuration"] == chosen, "best_epoch"].median())
    found["chosen"] = dict(found["configurations"][chosen])
    found["chosen"]["training"] = {**found["chosen"]["training"], "epochs": epochs}
    order = {name: number for number, name in enumerate(sorted(found["configurations"]))}
    by_name = {"key": lambda names: names.map(order), "kind": "stable", "ignore_index": True}
    return Comparison(
        predictions.sort_values("configuration", **by_name),
        inner.sort_values("configuration", **by_name),
        curves.sort_values("configuration", **by_name),
        null,
        validations[chosen],
        found | {"configurations": dict(sorted(found["configurations"].items()))},
    )


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _statistic(outcomes: list[Outcome]) -> float:
    """Balanced accuracy of the nested procedure on one shuffle of the classes."""
    done = sorted((o for o in outcomes if not o.error), key=lambda o: o.name)
    inner = pd.concat([o.inner.assign(configuration=o.name) for o in done])
    predictions = pd.concat([o.predictions.assign(configuration=o.name) for o in done])
    selected = select_configurations(inner.reset_index(drop=True))
    return nested_statistic(nested_predictions(predictions, selected))


def _procedures(sweep: Sweep, splits: list[Split], make_task, permutation: int) -> list[Any]:
    if sweep.parameters.search is None:
        return [
            grid_procedure(family, splits, make_task, permutation)
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
            make_task,
            **search.model_dump(exclude={"space", "seed"}),
            seed=int(np.random.default_rng([search.seed, *key, permutation]).integers(2**31)),
            permutation=permutation,
        )
        for key, parts in outer.items()
    ]


class _Progress:
    """Bar with the best configuration so far, by inner scores, and the chance level."""

    def __init__(self, manifest: pd.DataFrame) -> None:
        self._chance = 1 / manifest["class"].nunique()
        self._best = (0.0, "")
        self._bar = tqdm(desc="sweep", unit="fit", total=0)
        self._show()

    def task(self, done: int, known: int) -> None:
        self._bar.total = known
        self._bar.update(done - self._bar.n)

    def finished(self, inner: pd.DataFrame) -> None:
        self._best = max(self._best, (inner["score"].mean(), inner["configuration"].iloc[0]))
        self._show()

    def _show(self) -> None:
        score, name = self._best
        best = f"{score:.3f} ({name})" if name else "none yet"
        self._bar.set_postfix_str(f"best inner balanced accuracy {best}, chance {self._chance:.3f}")

    def close(self) -> None:
        self._bar.close()


def scorer(
    baselines: pd.DataFrame, reference: str, manifest: pd.DataFrame, seed: int = 0
) -> Callable[[pd.DataFrame], dict[str, float]]:
    """Function that scores the predictions of one configuration beside a baseline.

    Parameters
    ----------
    baselines : pandas.DataFrame
        Predictions of classical classifiers, with ``configuration``.
    reference : str
        The one that the paired difference is to.
    manifest : pandas.DataFrame
        The split, for the number of classes.
    seed : int
        Of the permutation test and the bootstrap, the same for every configuration.

    Returns
    -------
    callable
        Predictions to the scores of `skyloom.evaluation.scores.score_beside`.
    """
    beside = baselines[baselines["configuration"] == reference]
    n_classes = 0 if manifest.empty else int(manifest["class"].max()) + 1
    return lambda table: score_beside(table, beside, n_classes, np.random.default_rng(seed))


def score_comparison(
    predictions: pd.DataFrame,
    inner: pd.DataFrame,
    permutations: pd.DataFrame,
    baselines: pd.DataFrame,
    score: Callable[[pd.DataFrame], dict[str, float]],
    label_source: str,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score the nested procedure, every configuration and the baselines on the same objects.

    Parameters
    ----------
    predictions, inner, permutations : pandas.DataFrame
        From `compare_configurations`.
    baselines : pandas.DataFrame
        Predictions of classical classifiers, with ``configuration``.
    score : callable
        Scores of the predictions of one of them.
    label_source : str
        Where the classes come from.

    Returns
    -------
    scores : pandas.DataFrame
        One row a configuration, first the nested procedure: ``configuration``, ``kind`` (nested,
        network or baseline), its scores, ``inner_score``, ``p_value_of`` (what was permuted) and
        ``label_source``.
    all_predictions : pandas.DataFrame
        Of all of them, with ``kind``.
    selection : pandas.DataFrame
        ``seed``, ``fold``, ``configuration``, ``score``: what each outer fold selected.
    """
    if inner.empty:
        nothing = pd.DataFrame(columns=["configuration", "kind"])
        return nothing, predictions.assign(kind=[]), inner[["seed", "fold"]]
    selected = select_configurations(inner)
    nested = nested_predictions(predictions, selected).assign(configuration=NESTED)
    rows, parts = [], []
    for kind, group in (("nested", nested), ("network", predictions), ("baseline", baselines)):
        for name, table in group.groupby("configuration", sort=False):
            row = {"configuration": name, "kind": kind, **score(table)}
            row["p_value_of"] = "these predictions"
            if kind == "nested" and len(permutations):
                null = permutations["balanced_accuracy"].to_numpy()
                row["p_value"] = procedure_p_value(nested_statistic(nested), null)
                row["p_value_of"] = f"the whole procedure, {len(null)} shuffles"
            own = {"nested": selected, "network": inner}.get(kind)
            if kind == "network":
                own = inner[inner["configuration"] == name]
            row["inner_score"] = np.nan if own is None else own["score"].mean()
            rows.append(row | {"label_source": label_source})
            parts.append(table.assign(kind=kind))
    return pd.DataFrame(rows), pd.concat(parts, ignore_index=True), selected


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


# --- what MLflow and Excel are told of a configuration -------------------------------------------


def run_parameters(
    study: type[Configuration], configuration: Configuration | None, name: str, kind: str
) -> dict[str, Any]:
    """Parameters of a child run; the same keys for networks and baselines.

    Parameters
    ----------
    study : type of Configuration
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
    for section, names in study.swept.items():
        for field in names:
            value = getattr(getattr(configuration, section), field) if configuration else "none"
            values[field] = "-".join(map(str, value)) if isinstance(value, tuple) else value
    return values


def failed_run(
    study: type[Configuration], configuration: Configuration | None, name: str, error: str
) -> dict[str, Any]:
    """Child run of a configuration that failed or was pruned.

    Parameters
    ----------
    study : type of Configuration
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
        "params": run_parameters(study, configuration, name, "network"),
        "metrics": {},
        "curves": {},
        "tags": {"error": error},
        "status": "FINISHED" if pruned else "FAILED",
    }


def network_run(
    configuration: Configuration,
    scores: dict[str, float],
    inner: pd.DataFrame,
    curves: pd.DataFrame,
) -> dict[str, Any]:
    """Child run of a configuration.

    Parameters
    ----------
    configuration : Configuration
        Which.
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
    means = curves.groupby("epoch")[list(CURVES)].mean()
    by_fold = curves.groupby(["seed", "fold", "epoch"])["val_accuracy"].mean()
    return {
        "name": configuration.name,
        "params": run_parameters(type(configuration), configuration, configuration.name, "network"),
        "metrics": scores | {"inner_score": float(inner["score"].mean())},
        "curves": {f"epoch_{name}": means[name].tolist() for name in means}
        | {
            f"fold_{seed}.{fold}_val_accuracy": part.tolist()
            for (seed, fold), part in by_fold.groupby(["seed", "fold"])
        },
    }


def describe_children(
    study: type[Configuration],
    scores: pd.DataFrame,
    inner: pd.DataFrame,
    curves: pd.DataFrame,
    sweep: dict[str, Any],
) -> list[dict[str, Any]]:
    """Child runs of all configurations and baselines, those that failed among them.

    Parameters
    ----------
    study : type of Configuration
        The study's own.
    scores : pandas.DataFrame
        From `score_comparison`.
    inner, curves : pandas.DataFrame
        From `compare_configurations`.
    sweep : dict
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
            own = (table[table["configuration"] == name] for table in (inner, curves))
            known = study.model_validate(sweep["configurations"][name])
            child = network_run(known, metrics, *own)
        else:
            params = run_parameters(study, None, name, row["kind"])
            child = {"name": name, "params": params, "metrics": metrics, "curves": {}}
        children.append(child | {"file": file_name(name)})
    for name, error in sweep["failed"].items():
        content = sweep["configurations"][name]
        child = failed_run(study, content and study.model_validate(content), name, error)
        children.append(child | {"file": file_name(name)})
    return children


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
