"""Node functions of the training: baselines, the sweep, bending angles and the final network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom import tracking
from skyloom.compute import ClusterParameters
from skyloom.evaluation.baselines import (
    compare_baselines,
    logistic_regression,
    majority,
    random_forest,
)
from skyloom.evaluation.measures import classification_of, n_classes_of
from skyloom.evaluation.novelty import describe_sample
from skyloom.evaluation.report import data_fingerprint
from skyloom.evaluation.splits import MANIFEST_COLUMNS
from skyloom.images.moments import moment_features
from skyloom.learning.comparison import Comparison, compare_configurations, no_comparison
from skyloom.learning.final import (
    describe_classifier,
    fit_final,
    rows_and_classes,
    shares_of_training,
    untrained,
)
from skyloom.learning.results import file_name, scorer
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.radio_galaxies.features import (
    class_names,
    likeness_features,
)
from skyloom.pipelines.radio_galaxies.fitting import (
    ANGLE_SCALE,
    ANGLES,
    INPUTS,
    build_network,
    fit_angle_network,
    fit_angle_task,
    fit_network,
    fit_settings,
    fit_task,
    training_data,
)
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    BendingParameters,
    Configuration,
    Sweep,
)

# MLflow cuts names to ten characters in its plots: they differ before that.
FOREST_BASELINE = "image moments, random forest"
REGRESSION_BASELINE = "moments, logistic regression"
MAJORITY_BASELINE = "majority class"
MEAN_BASELINE, MOMENTS_BASELINE = "predict the mean", "image moments"


def fit_baselines(
    measurements: pd.DataFrame, split_manifest: pd.DataFrame, augmentation: AugmentationParameters
) -> pd.DataFrame:
    """Classical classifiers on the same split.

    Returns
    -------
    pandas.DataFrame
        ``configuration``, ``seed``, ``fold``, ``id``, ``class``, ``predicted``,
        ``probability_0`` ...
    """
    balanced, features = augmentation.balance_classes, moment_features(measurements)
    return compare_baselines(
        {
            FOREST_BASELINE: (random_forest(balanced=balanced), features),
            REGRESSION_BASELINE: (logistic_regression(balanced=balanced), features),
            MAJORITY_BASELINE: (majority(), features),
        },
        split_manifest,
    )


def run_sweep(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    synthetic_images: dict[str, Callable[[], np.ndarray]],
    synthetic: pd.DataFrame,
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
    measure = classification_of(split_manifest)
    return compare_configurations(
        sweep,
        split_manifest,
        sample["id"].to_numpy(),
        _shared_inputs(images, synthetic_images, synthetic),
        partial(fit_settings, n_outputs=n_classes_of(split_manifest)),
        fit_task,
        finished_fits,
        cluster,
        inputs=INPUTS,
        measure=measure,
        score=scorer(baseline_predictions, FOREST_BASELINE, measure),
        log=tracking.log_child,
    )


def _shared_inputs(images, synthetic_images, synthetic):
    """What the fits read, by name."""
    shared: dict[str, Any] = {f"images {name}": np.asarray(load()) for name, load in images.items()}
    for pool, part in synthetic.groupby("pool", sort=False):
        shared[pool] = {
            "images": np.asarray(synthetic_images[pool]()),
            "class": part["class"].to_numpy(float),
            "angle": part["bending_angle"].to_numpy(float) / ANGLE_SCALE,
        }
    return shared


def fit_bending_angles(
    sample: pd.DataFrame,
    angle_split_manifest: pd.DataFrame,
    measurements: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    synthetic_images: dict[str, Callable[[], np.ndarray]],
    synthetic: pd.DataFrame,
    sweep: Sweep,
    finished_fits: ResultStore,
    bending: BendingParameters,
    cluster: ClusterParameters,
) -> tuple[
    pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any],
    dict[str, Callable[[], Any]],
]:  # fmt: skip
    """Teach networks the bending angle, on observed sources whose angle is known and on simulated.

    It is a sweep of its own over what is trained on, with the measure `ANGLES`.

    Returns
    -------
    predictions, baselines : pandas.DataFrame
        Of the extended sources of the test part, in deg; those whose angle is not known are
        predicted, too. ``scatter`` is that of the same image turned and mirrored.
    inner_scores, curves : pandas.DataFrame
        From `skyloom.learning.comparison.compare_configurations`, in deg.
    outcome : dict
        From there.
    networks : dict of str to callable
        Function that returns the network of the arm that the validation part selects, fitted to
        all sources whose angle is known, by `angle_network_name`.
    """
    manifest = angle_manifest(sample, angle_split_manifest)
    angles = _sweep_of_angles(sweep, bending, manifest)
    if angles is None:
        nothing = no_comparison(ANGLES)
        tables = nothing.predictions, nothing.predictions, nothing.inner, nothing.curves
        return *tables, nothing.outcome, {}
    shared = _shared_inputs(images, synthetic_images, synthetic)
    truth = sample["bending_angle"].to_numpy(float)
    baselines = angle_baselines(sample, manifest, measurements)
    reference = best_angle_baseline(baselines)
    compared = compare_configurations(
        angles,
        manifest,
        sample["id"].to_numpy(),
        shared,
        partial(fit_settings, n_outputs=1),
        fit_angle_task,
        finished_fits,
        cluster,
        inputs=INPUTS,
        measure=ANGLES,
        truth=truth,
        score=scorer(baselines, reference, ANGLES),
        log=lambda child: tracking.log_child(angle_child(child)),
        about="bending angles",
    )
    chosen = Configuration.model_validate(compared.outcome["chosen"])
    first = int(manifest["fold"].min())
    settings = fit_settings([chosen], first, sweep.parameters.seed, n_outputs=1)
    settings["real_share"] = 1.0  # nothing is left out, whatever a learning curve did
    rows = np.flatnonzero(sample["id"].isin(manifest["id"]) & np.isfinite(truth))
    network, *_ = fit_final(
        settings, shared, rows, ANGLES.target(truth[rows]),
        training_data=training_data, fit_network=fit_angle_network,
    )  # fmt: skip
    # The dropout has no weights, and the network is shared by all fits of this process.
    rebuilt = partial(_angle_network, sweep.base, network.get_weights())
    name = angle_network_name(sample, sweep.base)
    return (
        compared.predictions, baselines, compared.inner, compared.curves, compared.outcome,
        {name: rebuilt},
    )  # fmt: skip


def angle_manifest(sample: pd.DataFrame, angle_split_manifest: pd.DataFrame) -> pd.DataFrame:
    """Split of the sources whose bending angle is known, with the others to be predicted.

    Parameters
    ----------
    sample, angle_split_manifest : pandas.DataFrame
        The sources, and the split of all of them.

    Returns
    -------
    pandas.DataFrame
        Extended sources without an angle are in the test part of one fold each: nothing can be
        learnt from them, whatever their part of the classes is.
    """
    kept = sample[sample["keep"]]
    measured = kept.loc[kept["bending_angle"].notna(), "id"]
    split = angle_split_manifest[angle_split_manifest["id"].isin(measured)]
    others = kept[kept["bending_angle"].isna() & (kept["class"] != "compact")]
    folds = sorted(angle_split_manifest["fold"].unique())
    if not folds or others.empty:
        return split
    fold = [folds[number % len(folds)] for number in range(len(others))]
    once = others[["id", "group", "sha256"]].assign(
        fold=fold, inner=0, role="test", **{"class": -1}
    )
    seeds = angle_split_manifest["seed"].unique()
    parts = [split, *(once.assign(seed=seed) for seed in seeds)]
    return pd.concat(parts, ignore_index=True)[list(MANIFEST_COLUMNS)]


def _sweep_of_angles(sweep, bending, manifest):
    """The arms that can be trained, or None."""
    if not sweep.parameters.bending or manifest.empty:
        return None
    learnt = manifest[manifest["role"] == "train"]
    sizes = learnt.groupby(["seed", "fold"]).size()
    n_splits = len(manifest[["seed", "fold"]].drop_duplicates())
    observed = len(sizes) == n_splits and sizes.min() > 1
    arms = [arm for arm in bending.arms if observed or not arm.startswith("real")]
    if not arms:
        return None
    parameters = sweep.parameters.model_copy(
        update={"grid": {"augmentation.arm": arms}, "search": None}
    )
    configurations = [angle_configuration(sweep.base, arm, bending) for arm in arms]
    return Sweep(base=sweep.base, configurations=configurations, parameters=parameters)


def angle_baselines(
    sample: pd.DataFrame, manifest: pd.DataFrame, measurements: pd.DataFrame
) -> pd.DataFrame:
    """Bending angles without a network: the mean of those learnt from, and image moments.

    Parameters
    ----------
    sample, manifest, measurements : pandas.DataFrame
        The sources, their `angle_manifest` and their image moments.

    Returns
    -------
    pandas.DataFrame
        As the predictions of `fit_bending_angles`.
    """
    truth = sample.set_index("id")["bending_angle"].astype(float)
    # Where there is no second arm to be seen, moments say straight.
    moments = measurements.set_index("id")["bending_angle"].fillna(0.0)
    tables = []
    for (seed, fold), part in manifest.groupby(["seed", "fold"]):
        test = part.loc[part["role"] == "test", "id"]
        mean = truth.loc[part.loc[part["role"] != "test", "id"]].mean()
        said = {MEAN_BASELINE: np.full(len(test), mean), MOMENTS_BASELINE: moments.loc[test]}
        for name, values in said.items():
            table = ANGLES.table(truth.loc[test].to_numpy(), np.asarray(values) / ANGLE_SCALE)
            table.insert(0, "id", test.to_numpy())
            tables.append(table.assign(configuration=name, seed=seed, fold=fold))
    return pd.concat(tables, ignore_index=True)


def best_angle_baseline(baselines: pd.DataFrame) -> str:
    """Name of the baseline of the smaller mean absolute error; moments where none is known."""
    error = (baselines["predicted"] - baselines["target"]).abs()
    means = error.groupby(baselines["configuration"]).mean().dropna()
    return means.idxmin() if len(means) else MOMENTS_BASELINE


def angle_child(child: dict[str, Any]) -> dict[str, Any]:
    """A run of MLflow that is one of the bending angle, told from those of the classes."""
    name = f"bending angle: {child['name']}"
    return child | {
        "name": name,
        "file": file_name(name),  # else the workbook of the classes would be attached
        "params": child["params"] | {"configuration": name},
        "metrics": {f"bending_{key}": value for key, value in child["metrics"].items()},
        "curves": {
            key.replace("epoch_", "epoch_bending_"): value for key, value in child["curves"].items()
        },
    }


def angle_configuration(
    base: Configuration, arm: str, parameters: BendingParameters
) -> Configuration:
    """How the regressor of an arm is trained: the base, but for what the regression changes."""
    return base.changed(
        arm,
        {
            "augmentation.arm": arm,
            "augmentation.synthetic_ratio": parameters.synthetic_ratio,
            "network.dropout": parameters.dropout,
            "training.epochs": parameters.epochs,
            "training.steps_per_epoch": parameters.steps_per_epoch,
        },
    )


def angle_network_name(sample: pd.DataFrame, base: Configuration) -> str:
    """Name by which a classifier knows the regressor that was trained beside it.

    Of another sample or of other images there is another one.
    """
    return f"angle_{data_fingerprint(sample)[:12]}_{base.input_variant}"


def _angle_network(base, weights):
    model = build_network(base.network, base.features.size, 1, True, 0)
    model.set_weights(weights)
    return model


def fit_final_network(
    sample: pd.DataFrame,
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    synthetic_images: dict[str, Callable[[], np.ndarray]],
    synthetic: pd.DataFrame,
    validation_predictions: pd.DataFrame,
    outcome: dict[str, Any],
    sweep: Sweep,
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Fit the chosen configuration to every labelled source and calibrate it.

    Returns
    -------
    network : keras.Model
        Its probabilities are calibrated; untrained where there was nothing to train on.
    description : dict
        What is needed to use it: ``trained``, ``configuration``, ``class_names``,
        ``temperature``, ``calibration_error`` before and after, and ``sample``, which tells
        sources unlike those of the training.
    example : numpy.ndarray of float32
        One input.
    """
    if outcome["chosen"] is None:
        base = sweep.base
        size = base.features.size
        return untrained(build_network(base.network, size, 2, False, 0), (size, size, 1))
    chosen = Configuration.model_validate(outcome["chosen"])
    rows, classes = rows_and_classes(sample, split_manifest)
    fold = int(split_manifest["fold"].min())
    settings = fit_settings(
        [chosen], fold, sweep.parameters.seed, n_outputs=n_classes_of(split_manifest)
    )
    settings["real_share"] = 1.0  # nothing is left out, whatever a learning curve did
    network, example, learnt = fit_final(
        settings, _shared_inputs(images, synthetic_images, synthetic), rows, classes,
        training_data=training_data, fit_network=fit_network,
    )  # fmt: skip
    description = describe_classifier(
        network,
        outcome,
        validation_predictions,
        class_names(sample, split_manifest),
        shares_of_training(learnt, settings["n_outputs"], balanced=settings["balance_classes"]),
        angle_network=angle_network_name(sample, sweep.base),
        angle_features=sweep.base.features.model_dump(mode="json"),
        objects="sources",
        n_objects=len(rows),
        label_source=", ".join(sorted(sample.loc[rows, "label_source"].unique())),
        sample=describe_sample(likeness_features(measurements).loc[sample["id"].iloc[rows]]),
    )
    return network, description, example
