"""Node functions of the training: pre-training, baselines, the sweep and the final network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom import tracking
from skyloom.compute import ClusterParameters
from skyloom.evaluation.baselines import compare_baselines, logistic_regression, majority
from skyloom.evaluation.measures import classification_of, n_classes_of
from skyloom.evaluation.novelty import describe_sample
from skyloom.learning.comparison import Comparison, compare_configurations
from skyloom.learning.final import describe_classifier, fit_final, shares_of_training, untrained
from skyloom.learning.fitting import prepare_process, unpack
from skyloom.learning.results import scorer
from skyloom.learning.tasks import ResultStore, Task, run_each
from skyloom.pipelines.hi_profiles.augmentation import class_names, class_values
from skyloom.pipelines.hi_profiles.features import baseline_features, image_format, sample_features
from skyloom.pipelines.hi_profiles.fitting import (
    build_network,
    fit_network,
    fit_settings,
    fit_task,
    inputs_of,
    pretrain_task,
    training_data,
)
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    Configuration,
    PretrainingParameters,
    ReportingParameters,
    Sweep,
)

# MLflow cuts names to ten characters in its plots: they differ before that.
A_FLUX_BASELINE = "A_flux, logistic regression"
ALL_INDICES_BASELINE = "all indices and S/N, logistic regression"
MAJORITY_BASELINE = "majority class"

INPUTS = ("images", "copies", "pretrained")  # settings of a fit that name shared inputs


def pretrain_networks(
    pretraining_images: dict[str, Callable[[], np.ndarray]],
    pretraining_targets: np.ndarray,
    sweep: Sweep,
    finished_fits: ResultStore,
    pretraining: PretrainingParameters,
    cluster: ClusterParameters,
) -> dict[str, Callable[[], Any]]:
    """Train every network that the sweep starts from on the simulated profiles.

    Returns
    -------
    dict of str to callable
        Function that returns the network, by its name.

    Raises
    ------
    RuntimeError
        If a training fails: nothing could start from it.
    """
    members = sweep.pretrained
    if not members:
        return {}
    images = {variant: np.asarray(load()) for variant, load in pretraining_images.items()}
    tasks = {
        name: pretraining_of(member, pretraining, pretraining_targets)
        for name, member in members.items()
    }
    networks = {}
    for name, result in run_each(
        tasks, pretrain_task, images, finished_fits, cluster,
        size=max(member.size for member in members.values()), about="pre-training", unit="network",
    ):  # fmt: skip
        shape = inputs_of(tasks[name].settings, images, np.arange(1)).shape[1:]
        weights = unpack(result, "weight")
        networks[name] = partial(_network_with, members[name].network, shape, weights)
    return networks


def pretraining_of(
    member: Configuration, pretraining: PretrainingParameters, targets: np.ndarray
) -> Task:
    """Task of the training of the network that a configuration starts from."""
    settings = {
        "network": member.network.model_dump(mode="json"),
        "quadrant": member.features.quadrant,
        "images": member.input_variant,
        **pretraining.model_dump(exclude={"n_profiles"}),
    }
    return Task(settings, {"targets": targets}, (member.input_variant,))


def _network_with(network, shape, weights):
    # The last weight is the bias of the last layer: as many numbers as targets.
    model = build_network(network, shape, len(weights[-1]), 0, activation=None)
    model.set_weights(weights)
    return model


def fit_baselines(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    split_manifest: pd.DataFrame,
    augmentation: AugmentationParameters,
) -> pd.DataFrame:
    """Classical classifiers on the outer folds.

    Returns
    -------
    pandas.DataFrame
        From `skyloom.evaluation.baselines.compare_baselines`.
    """
    indices = baseline_features(profiles, fits, asymmetry)
    regression = logistic_regression(balanced=augmentation.balance_classes)
    methods = {
        A_FLUX_BASELINE: (regression, indices[["a_flux"]]),
        ALL_INDICES_BASELINE: (regression, indices),
        MAJORITY_BASELINE: (majority(), indices[["a_flux"]]),
    }
    return compare_baselines(methods, split_manifest)


def run_sweep(
    profiles: pd.DataFrame,
    split_manifest: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    augmentation_manifest: pd.DataFrame,
    augmented_images: dict[str, Callable[[], np.ndarray]],
    pretrained_networks: dict[str, Callable[[], Any]],
    baseline_predictions: pd.DataFrame,
    sweep: Sweep,
    finished_fits: ResultStore,
    cluster: ClusterParameters,
) -> Comparison:
    """Nested cross-validation of every configuration, and of the whole on shuffled classes.

    Returns
    -------
    Comparison
    """
    measure = classification_of(split_manifest)
    return compare_configurations(
        sweep,
        split_manifest,
        profiles["id"].to_numpy(),
        _shared_inputs(images, augmentation_manifest, augmented_images, pretrained_networks),
        partial(fit_settings, n_classes=n_classes_of(split_manifest)),
        fit_task,
        finished_fits,
        cluster,
        inputs=INPUTS,
        measure=measure,
        score=scorer(baseline_predictions, A_FLUX_BASELINE, measure),
        log=tracking.log_child,
        n_inner_folds=sweep.base.augmentation.n_inner_folds,
    )


def _shared_inputs(images, copies, augmented_images, pretrained):
    """What the fits read, by name."""
    shared = {f"images {variant}": np.asarray(load()) for variant, load in images.items()}
    for variant, load in augmented_images.items():
        profile = copies.loc[copies["variant"] == variant, "profile"].to_numpy(int)
        shared[f"copies {variant}"] = {"images": np.asarray(load()), "profile": profile}
    for name, load in pretrained.items():
        shared[f"pretrained {name}"] = load().get_weights()
    return shared


def fit_final_network(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    classes: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    augmentation_manifest: pd.DataFrame,
    augmented_images: dict[str, Callable[[], np.ndarray]],
    pretrained_networks: dict[str, Callable[[], Any]],
    validation_predictions: pd.DataFrame,
    outcome: dict[str, Any],
    sweep: Sweep,
    reporting: ReportingParameters,
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Fit the chosen configuration to every labelled galaxy and calibrate it.

    Returns
    -------
    classifier : keras.Model
        Its probabilities are calibrated; untrained where there was nothing to train on.
    classifier_description : dict
        From `skyloom.learning.final.describe_classifier`, with the ``class_values`` of the label
        table and the ``sample``, which tells galaxies unlike those of the training.
    classifier_example : numpy.ndarray of float32
        One input.
    """
    prepare_process(0)  # before the pre-trained networks are loaded
    if outcome["chosen"] is None:
        shape = _input_shape(sweep.base)
        return untrained(build_network(sweep.base.network, shape, 2, 0), shape)
    chosen = Configuration.model_validate(outcome["chosen"])
    used = classes[classes["used"]]
    rows, labels = used.index.to_numpy(), used["class"].to_numpy(np.int32)
    settings = fit_settings([chosen], 0, sweep.parameters.seed, n_classes=int(labels.max()) + 1)
    network, example, learnt = fit_final(
        settings,
        _shared_inputs(images, augmentation_manifest, augmented_images, pretrained_networks),
        rows,
        labels,
        training_data=training_data,
        fit_network=fit_network,
    )
    description = describe_classifier(
        network,
        outcome,
        validation_predictions,
        class_names(classes, reporting.class_names),
        shares_of_training(learnt, settings["n_classes"], balanced=settings["balance"]),
        class_values=class_values(classes),
        objects="galaxies",
        n_objects=len(used),
        label_source=str(classes["label_source"].iloc[0]),
        sample=describe_sample(sample_features(profiles, fits, asymmetry).loc[used["id"]]),
    )
    return network, description, example


def _input_shape(configuration):
    """Of one input of its network, where there are no images to tell."""
    network, features = configuration.network, configuration.features
    channels = image_format(features)[0] * len(network.image_models)
    radius = (features.size, channels)
    return radius if network.architecture == "folded_cnn" else (features.size, *radius)
