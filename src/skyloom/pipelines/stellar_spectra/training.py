"""Node functions of the training: baselines, the sweep and the final network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom import tracking
from skyloom.compute import ClusterParameters
from skyloom.evaluation.baselines import (
    cross_predict,
    logistic_regression,
    majority,
    random_forest,
)
from skyloom.evaluation.novelty import describe_sample
from skyloom.evaluation.scores import class_scores
from skyloom.learning.comparison import (
    PREDICTION_COLUMNS,
    Comparison,
    compare_configurations,
    make_task,
    no_comparison,
    scorer,
)
from skyloom.learning.fitting import calibrate, prepare_process
from skyloom.learning.sweep import ResultStore
from skyloom.pipelines.stellar_spectra.augmentation import class_names
from skyloom.pipelines.stellar_spectra.fitting import (
    INPUTS,
    build_network,
    code,
    fit_network,
    fit_settings,
    fit_task,
    settings_of_split,
    training_data,
)
from skyloom.pipelines.stellar_spectra.parameters import Configuration, Sweep
from skyloom.spectra.optical.line_indices import LINE_INDICES

# MLflow cuts names to ten characters in its plots: they differ before that.
FOREST_BASELINE = "line indices, random forest"
REGRESSION_BASELINE = "indices, logistic regression"
MAJORITY_BASELINE = "majority class"
# Lines by which a star is told to be like those of the sample; of these, such as nearly all of its
# stars have in the chosen window.
_MEASURED = 0.9
_LIKENESS = ("H delta", "G band", "H gamma", "Fe I 4383", "H beta", "Mg b", "Na D", "TiO 6200")


def baseline_features(measurements: pd.DataFrame) -> pd.DataFrame:
    """Equivalent widths as the classical classifiers take them.

    Parameters
    ----------
    measurements : pandas.DataFrame
        From `skyloom.pipelines.stellar_spectra.features.measure_stars`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``, Angstrom; NaN where a line could not be measured.
    """
    return measurements.set_index("id")[list(LINE_INDICES)]


def likeness_features(measurements: pd.DataFrame) -> pd.DataFrame:
    """What decides whether a star is like those of the training sample.

    Parameters
    ----------
    measurements : pandas.DataFrame
        From `skyloom.pipelines.stellar_spectra.features.measure_stars`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``: equivalent widths, Angstrom; NaN outside of the window.
    """
    return baseline_features(measurements)[list(_LIKENESS)]


def fit_baselines(measurements: pd.DataFrame, split_manifest: pd.DataFrame) -> pd.DataFrame:
    """Classical classifiers on the same split, every class weighed alike.

    Returns
    -------
    pandas.DataFrame
        ``configuration``, ``seed``, ``fold``, ``id``, ``class``, ``predicted``,
        ``probability_0`` ...
    """
    if split_manifest.empty:
        return pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    n_classes = int(split_manifest["class"].max()) + 1
    features = baseline_features(measurements)
    tables = [
        cross_predict(classifier, features, split_manifest, n_classes).assign(configuration=name)
        for name, classifier in (
            (FOREST_BASELINE, random_forest(balanced=True)),
            (REGRESSION_BASELINE, logistic_regression(balanced=True)),
            (MAJORITY_BASELINE, majority()),
        )
    ]
    return pd.concat(tables, ignore_index=True)


def run_sweep(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    inputs: dict[str, Callable[[], np.ndarray]],
    synthetic_spectra: dict[str, Callable[[], np.ndarray]],
    baseline_predictions: pd.DataFrame,
    sweep: Sweep,
    finished_fits: ResultStore,
    cluster: ClusterParameters,
) -> Comparison:
    """Train every configuration on every split.

    Returns
    -------
    Comparison
    """
    if split_manifest.empty:
        return no_comparison()
    names = class_names(sample, split_manifest)
    settings = partial(
        settings_of_split, len(names), rare_number(names, sweep), tuple(synthetic_spectra)
    )
    return compare_configurations(
        sweep,
        split_manifest,
        sample["id"].to_numpy(),
        _shared_inputs(inputs, synthetic_spectra),
        partial(make_task, settings, INPUTS, sweep.parameters.seed),
        fit_task,
        finished_fits,
        cluster,
        code=code(),
        score=rare_scorer(baseline_predictions, split_manifest, rare_number(names, sweep)),
        log=tracking.log_child,
    )


def rare_scorer(
    baselines: pd.DataFrame, manifest: pd.DataFrame, rare: int, seed: int = 0
) -> Callable[[pd.DataFrame], dict[str, float]]:
    """Function that scores predictions beside the first baseline, those of the rare class too.

    Parameters
    ----------
    baselines, manifest : pandas.DataFrame
        As of `skyloom.learning.comparison.scorer`.
    rare : int
        Number of the rare class; -1 where there is none.
    seed : int
        Of the permutation test and the bootstrap.

    Returns
    -------
    callable
        Predictions to scores, with ``rare_recall`` and ``rare_precision`` and the ends of their
        95 % intervals where the class was tested.
    """
    score = scorer(baselines, FOREST_BASELINE, manifest, seed)

    def scored(predictions):
        found = score(predictions)
        if not (predictions["class"] == rare).any():
            return found
        own = class_scores(predictions, [1.0] * (int(manifest["class"].max()) + 1)).iloc[rare]
        measures = ("recall", "precision")
        names = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
        return found | {f"rare_{name}": float(own[name]) for name in names}

    return scored


def rare_number(names: list[str], sweep: Sweep) -> int:
    """Number of the rare class.

    Parameters
    ----------
    names : list of str
        Of the classes of a split.
    sweep : Sweep
        Which class is called rare.

    Returns
    -------
    int
        -1 where the split has none.
    """
    rare = sweep.base.augmentation.rare_class
    return names.index(rare) if rare in names else -1


def _shared_inputs(inputs, synthetic_spectra):
    """What the fits read, by name."""
    shared = {f"spectra {name}": np.asarray(load()) for name, load in inputs.items()}
    return shared | {pool: np.asarray(load()) for pool, load in synthetic_spectra.items()}


def fit_final_network(
    sample: pd.DataFrame,
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    inputs: dict[str, Callable[[], np.ndarray]],
    synthetic_spectra: dict[str, Callable[[], np.ndarray]],
    validation_predictions: pd.DataFrame,
    outcome: dict[str, Any],
    sweep: Sweep,
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Fit the chosen configuration to every star of the split and calibrate it.

    Returns
    -------
    network : keras.Model
        Its probabilities are calibrated; untrained where there was nothing to train on.
    description : dict
        What is needed to use it: ``trained``, ``configuration``, ``class_names``,
        ``temperature``, ``calibration_error`` before and after, and ``sample``, which tells stars
        unlike those of the training (None where the window has none of the lines).
    example : numpy.ndarray of float32
        One input.
    """
    prepare_process(0)
    if outcome["chosen"] is None:
        base = sweep.base
        shape = base.features.input_shape
        untrained = build_network(base.network, shape, 2, 0)
        return untrained, {"trained": False}, np.zeros((1, *shape), np.float32)
    chosen = Configuration.model_validate(outcome["chosen"])
    objects = split_manifest.drop_duplicates("id")
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    rows, labels = row_of.loc[objects["id"]].to_numpy(), objects["class"].to_numpy(np.int32)
    names = class_names(sample, split_manifest)
    shared = _shared_inputs(inputs, synthetic_spectra)
    settings = fit_settings(
        [chosen],
        len(names),
        rare_number(names, sweep),
        tuple(synthetic_spectra),
        int(split_manifest["fold"].min()),
        sweep.parameters.seed,
    )
    train = training_data(settings, rows, labels, shared)
    network, snapshots, _ = fit_network(settings, train, None)
    network.set_weights(snapshots[0].weights)

    likeness = likeness_features(measurements).loc[objects["id"]]
    likeness = likeness.loc[:, likeness.notna().mean() >= _MEASURED]
    calibration = calibrate(network, validation_predictions)
    description = {
        "trained": True,
        "configuration": chosen.model_dump(mode="json"),
        "class_names": names,
        "n_spectra": len(objects),
        "surveys": sorted(sample.loc[rows, "survey"].unique()),
        "label_source": ", ".join(sorted(sample.loc[rows, "label_source"].unique())),
        **calibration,
        "sample": describe_sample(likeness) if len(likeness.columns) else None,
    }
    return network, description, np.asarray(train[0][:1])
