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
from skyloom.learning.comparison import Comparison, compare_configurations
from skyloom.learning.final import describe_classifier, fit_final, rows_and_classes, untrained
from skyloom.learning.results import scorer
from skyloom.learning.tasks import ResultStore, Task, run_each
from skyloom.pipelines.radio_galaxies.features import (
    baseline_features,
    class_names,
    likeness_features,
)
from skyloom.pipelines.radio_galaxies.fitting import (
    ANGLE_SCALE,
    INPUTS,
    build_network,
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
ANGLE_BASELINES = ("predict the mean", "image moments")
ANGLE_COLUMNS = ("arm", "seed", "fold", "id", "angle", "predicted", "scatter")
ANGLE_CURVES = ("loss", "mae", "val_loss", "val_mae")


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
    balanced, features = augmentation.balance_classes, baseline_features(measurements)
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
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Callable[[], Any]]]:
    """Teach networks the bending angle, on observed sources whose angle is known and on simulated.

    Returns
    -------
    predictions : pandas.DataFrame
        `ANGLE_COLUMNS` in deg: extended sources of the test part whose angle is known and, with
        ``angle`` missing, all others whose angle is not. ``scatter`` is the standard deviation of
        the predictions for the same image turned and mirrored. The baselines are among the arms.
    curves : pandas.DataFrame
        ``arm``, ``seed``, ``fold``, ``epoch``, mean squared and mean absolute errors (deg).
    networks : dict of str to callable
        Function that returns the network of the arm with the lowest validation error, by
        `angle_network_name`.

    Raises
    ------
    RuntimeError
        If a fit fails.
    """
    nothing = pd.DataFrame(columns=list(ANGLE_COLUMNS))
    no_curves = pd.DataFrame(columns=["arm", "seed", "fold", "epoch", *ANGLE_CURVES])
    if not sweep.parameters.bending or angle_split_manifest.empty:
        return nothing, no_curves, {}
    base = sweep.base
    shared = _shared_inputs(images, synthetic_images, synthetic)
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    angle = sample["bending_angle"].to_numpy(float)
    others = np.flatnonzero(sample["keep"] & (sample["class"] != "compact") & np.isnan(angle))
    jobs = {}
    for (seed, fold), part in angle_split_manifest.groupby(["seed", "fold"]):
        rows = {
            role: row_of.loc[part.loc[part["role"] == role, "id"]].to_numpy()
            for role in ("train", "validation", "test")
        }
        rows = {role: found[np.isfinite(angle[found])] for role, found in rows.items()}
        for arm in bending.arms:
            if arm.startswith("real") and len(rows["train"]) < 2:
                continue  # nothing observed has an angle
            jobs[arm, int(seed), int(fold)] = rows
    if not jobs:
        return nothing, no_curves, {}
    tasks, predicted = {}, {}
    for key, rows in jobs.items():
        arm, seed, fold = key
        member = angle_configuration(base, arm, bending)
        own = int(np.random.default_rng([seed, fold, 7]).integers(2**20))
        settings = fit_settings([member], fold, own, n_outputs=1)
        predicted[key] = np.concatenate([rows["test"], others])
        arrays = {"train": rows["train"], "validation": rows["validation"]}
        arrays |= {f"{role}_angles": angle[part] for role, part in arrays.items()}
        arrays["predict"] = predicted[key]
        used = tuple(settings[name] for name in INPUTS if settings[name])
        tasks[key] = Task(settings, arrays, used)
    tables, curves, weights = [], [], {}
    for (arm, seed, fold), result in run_each(
        tasks, fit_angle_task, shared, finished_fits, cluster,
        size=base.features.size, about="bending angles",
    ):  # fmt: skip
        key = {"arm": arm, "seed": seed, "fold": fold}
        rows = predicted[arm, seed, fold]
        tables.append(
            pd.DataFrame(
                {"id": sample["id"].to_numpy()[rows], "angle": angle[rows],
                 "predicted": result["angle"], "scatter": result["scatter"]}
            ).assign(**key)
        )  # fmt: skip
        history = pd.DataFrame(result["history"], columns=list(ANGLE_CURVES))
        curves.append(history.assign(epoch=np.arange(1, len(history) + 1), **key))
        weights[arm, seed, fold] = result
    measured = measurements["bending_angle"].to_numpy()
    for (seed, fold), part in angle_split_manifest.groupby(["seed", "fold"]):
        rows = row_of.loc[part.loc[part["role"] == "test", "id"]].to_numpy()
        learn = row_of.loc[part.loc[part["role"] != "test", "id"]].to_numpy()
        rows = np.concatenate([rows[np.isfinite(angle[rows])], others])
        known = learn[np.isfinite(angle[learn])]
        mean = angle[known].mean() if len(known) else np.nan
        # Where there is no second arm to be seen, moments say straight.
        for arm, values in zip(
            ANGLE_BASELINES, (np.full(len(rows), mean), np.nan_to_num(measured[rows])), strict=True
        ):
            tables.append(
                pd.DataFrame(
                    {"id": sample["id"].to_numpy()[rows], "angle": angle[rows],
                     "predicted": values, "scatter": 0.0}
                ).assign(arm=arm, seed=seed, fold=fold)
            )  # fmt: skip
    order = ["arm", "seed", "fold"]
    predictions = pd.concat(tables, ignore_index=True)[list(ANGLE_COLUMNS)]
    errors = pd.concat(curves).sort_values([*order, "epoch"], ignore_index=True)
    lowest = errors.groupby(order)["val_mae"].min()
    arm = lowest.groupby("arm").mean().idxmin()
    chosen = lowest.loc[[arm]].idxmin()
    return (
        predictions.sort_values(order, kind="stable", ignore_index=True),
        errors,
        {angle_network_name(sample, base): partial(_angle_network, base, weights[chosen])},
    )


def angle_configuration(
    base: Configuration, arm: str, parameters: BendingParameters
) -> Configuration:
    """How the regressor of an arm is trained.

    Parameters
    ----------
    base : Configuration
        Values of what the regression does not change.
    arm : str
        What is trained on.
    parameters : BendingParameters
        ``radio_galaxies.bending``.

    Returns
    -------
    Configuration
    """
    return base.changed(
        f"bending angle: {arm}",
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

    Parameters
    ----------
    sample : pandas.DataFrame
        The sample.
    base : Configuration
        Its images.

    Returns
    -------
    str
        Of another sample or of other images there is another name.
    """
    return f"angle_{data_fingerprint(sample)[:12]}_{base.input_variant}"


def _angle_network(base, result):
    from skyloom.learning.fitting import unpack

    model = build_network(base.network, base.features.size, 1, True, 0)
    model.set_weights(unpack(result, "weight"))  # the dropout has none
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
    network, example = fit_final(
        settings, _shared_inputs(images, synthetic_images, synthetic), rows, classes,
        training_data=training_data, fit_network=fit_network,
    )  # fmt: skip
    description = describe_classifier(
        network,
        outcome,
        validation_predictions,
        class_names(sample),
        angle_network=angle_network_name(sample, sweep.base),
        angle_features=sweep.base.features.model_dump(mode="json"),
        n_objects=len(rows),
        label_source=", ".join(sorted(sample.loc[rows, "label_source"].unique())),
        sample=describe_sample(likeness_features(measurements).loc[sample["id"].iloc[rows]]),
    )
    return network, description, example
