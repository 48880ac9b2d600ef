"""The published protocol, run to the letter beside the honest one: the audit of the training."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.compute import ClusterParameters
from skyloom.evaluation.audit import FIT, TestedFit, best_of, published_rates, shuffled_rates
from skyloom.evaluation.measures import class_targets
from skyloom.learning.tasks import FailedTask, Finished, ResultStore, Task, run_all
from skyloom.pipelines.hi_profiles.fitting import fit_settings, fit_task
from skyloom.pipelines.hi_profiles.parameters import AuditParameters, Sweep

AUDIT_COLUMNS = (
    *FIT, "n_test", "n_predicted_classes",
    "success_rate", "relabeled_success_rate", "is_winner", "refitted",
)  # fmt: skip
AUDIT_LABELS = {
    "random": "random training labels, as published",
    "true": "true training labels",
    "shuffled": "true labels shuffled, for training and test",
}


def audit_published_protocol(
    profiles: pd.DataFrame,
    classes: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    sweep: Sweep,
    finished_fits: ResultStore,
    audit: AuditParameters,
    cluster: ClusterParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Run the published protocol to the letter, with three kinds of training labels.

    Validation objects are the test objects, every relabeling is tried on the test objects,
    predictions of one class are skipped, the best of the grid is chosen by its test objects, and
    refitted. Nothing of it enters any other result.

    Returns
    -------
    fits : pandas.DataFrame
        One row a configuration and kind of labels, with the columns `AUDIT_COLUMNS`; the last one
        is the success rate of the winner fitted once more.
    predictions : pandas.DataFrame
        Of every fit for its test objects: the first five columns of ``fits``, ``id``,
        ``predicted``, ``probability_0`` ..., ``class``.
    null : pandas.DataFrame
        ``labels``, ``relabeled``, and for many shuffles of the classes after the fits: ``best``,
        the best success rate of the grid, and ``one``, that of one fit, each in turn.

    References
    ----------
    arXiv:2501.11657 and its documentation.
    """
    used = np.flatnonzero(classes["used"])
    truth = classes["class"].fillna(-1).to_numpy(int)
    n_classes = len(np.unique(truth[used]))
    fits = pd.DataFrame(columns=list(AUDIT_COLUMNS))
    null = pd.DataFrame(columns=["labels", "relabeled", "best", "one"])
    if not audit.test_sizes or n_classes < 2 or len(used) < 10:
        return fits, pd.DataFrame(columns=[*FIT, "id", "predicted", "class"]), null
    base = sweep.base
    variant = base.input_variant
    if variant not in images:
        msg = f"the base settings' images {variant} are not among {sorted(images)}"
        raise ValueError(msg)
    shared = {f"images {variant}": np.asarray(images[variant]())}
    labels = _audit_labels(truth, used, n_classes, audit.seed)
    procedures = [
        _audit_procedure(kind, audit, base, used, *labels[kind], n_classes) for kind in AUDIT_LABELS
    ]
    tables, predictions, nulls = [], [], []
    with tqdm(desc="published protocol", unit="fit", total=0) as bar:

        def show(done, known):
            bar.total = known
            bar.update(done - bar.n)

        for kind, table, tested, probabilities in run_all(
            procedures, fit_task, shared, finished_fits, cluster, size=base.size, on_task=show
        ):
            scored = labels[kind][1]
            tables.append(table)
            predictions += _predictions(table, tested, probabilities, scored, profiles["id"])
            nulls += _nulls(kind, scored, used, tested, n_classes, audit)
    by_kind = {"key": lambda names: names.map(list(AUDIT_LABELS).index), "kind": "stable"}
    return tuple(
        pd.concat(parts).sort_values("labels", ignore_index=True, **by_kind)
        for parts in (tables, predictions, nulls)
    )


def _predictions(table, tested, probabilities, scored, ids):
    """What each fit says of its test objects."""
    rows = table[list(FIT)].to_dict("records")
    return [
        pd.DataFrame(
            {
                **row,
                "id": ids.to_numpy()[fit.rows],
                "predicted": fit.predicted,
                **{f"probability_{k}": part for k, part in enumerate(probability.T)},
                "class": scored[fit.rows],
            }
        )
        for row, fit, probability in zip(rows, tested, probabilities, strict=True)
    ]


def _nulls(kind, scored, used, tested, n_classes, audit):
    """Success rates on shuffled classes: of the best fit, and of one in turn."""
    # Objects without a class are in no test set.
    within = [TestedFit(np.searchsorted(used, fit.rows), fit.predicted) for fit in tested]
    parts = []
    for relabel in (False, True):
        rates = shuffled_rates(
            scored[used], within, n_classes, np.random.default_rng([audit.seed, 3]),
            n_shuffles=audit.n_shuffles, relabel=relabel,
        )  # fmt: skip
        named = np.flatnonzero(np.isfinite(rates[0]))  # of more than one class
        turn = named[np.arange(len(rates)) % len(named)] if len(named) else None
        part = {"labels": kind, "relabeled": relabel, "best": best_of(rates)}
        part["one"] = np.nan if turn is None else rates[np.arange(len(rates)), turn]
        parts.append(pd.DataFrame(part))
    return parts


def _audit_labels(truth, used, n_classes, seed):
    """Labels to train on and to be scored against, for each kind."""
    rng = np.random.default_rng([seed, 1])
    random, shuffled = truth.copy(), truth.copy()
    random[used] = rng.integers(0, n_classes, len(used))
    shuffled[used] = rng.permutation(truth[used])
    return {"random": (random, truth), "true": (truth, truth), "shuffled": (shuffled, shuffled)}


def _audit_procedure(kind, parameters, base, used, training_labels, scored, n_classes):
    """All fits of the published grid on one kind of labels, then the winner once more."""
    from sklearn.model_selection import train_test_split  # slow to import

    published = {
        "training.start": "scratch",
        "training.patience": None,
        "augmentation.n_copies": 0,
        "augmentation.balance_classes": False,
    }
    tasks, rows = [], []
    for widths, test_size, split_seed in itertools.product(
        parameters.widths, parameters.test_sizes, parameters.split_seeds
    ):
        family = [
            base.changed(
                "published", {"network.widths": widths, "training.epochs": epochs, **published}
            )
            for epochs in parameters.epochs
        ]
        train, test = train_test_split(used, test_size=test_size, random_state=split_seed)
        train, test = np.sort(train), np.sort(test)
        seed = int(np.random.default_rng([parameters.seed, 2, len(tasks)]).integers(2**20))
        settings = fit_settings(family, 0, seed, n_classes=n_classes)
        # As published: the validation objects are those of the test.
        arrays = {"train": train, "validation": test, "test": test}
        for role in ("train", "validation"):
            arrays[f"{role}_targets"] = class_targets(training_labels[arrays[role]])
        tasks.append(Task(settings, arrays, (settings["images"],)))
        rows += [
            {
                "labels": kind,
                "test_size": test_size,
                "split_seed": split_seed,
                "epochs": epochs,
                "widths": "-".join(map(str, widths)),
                "n_test": len(test),
                "task": len(tasks) - 1,
                "position": position,
            }
            for position, epochs in enumerate(parameters.epochs)
        ]
    results = yield tasks
    failed = next((r for r in results if isinstance(r, FailedTask)), None)
    if failed is not None:
        msg = f"a fit of the published protocol failed: {failed.error}"
        raise RuntimeError(msg)
    probabilities = [results[r["task"]]["test_prediction"][r["position"]] for r in rows]
    tested = [
        TestedFit(tasks[row["task"]].arrays["test"], probability.argmax(axis=1))
        for row, probability in zip(rows, probabilities, strict=True)
    ]
    table = pd.DataFrame(rows)
    table["n_predicted_classes"] = [len(np.unique(fit.predicted)) for fit in tested]
    table["success_rate"] = published_rates(scored, tested, n_classes, relabel=False)
    table["relabeled_success_rate"] = published_rates(scored, tested, n_classes)
    table["is_winner"], table["refitted"] = False, np.nan
    if table["relabeled_success_rate"].notna().any():
        winner = table["relabeled_success_rate"].idxmax()
        table.loc[winner, "is_winner"] = True
        again = tasks[table.loc[winner, "task"]]
        again = again._replace(settings=again.settings | {"seed": again.settings["seed"] + 1})
        (result,) = yield [again]
        if not isinstance(result, FailedTask):
            probability = result["test_prediction"][table.loc[winner, "position"]]
            fit = TestedFit(again.arrays["test"], probability.argmax(axis=1))
            table.loc[winner, "refitted"] = published_rates(scored, [fit], n_classes)[0]
    yield Finished((kind, table[list(AUDIT_COLUMNS)], tested, probabilities))
