"""Node functions of the training: pre-training, baselines, the sweep and the final network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom import tracking
from skyloom.compute import ClusterParameters, connect
from skyloom.evaluation.baselines import cross_predict, logistic_regression, majority
from skyloom.evaluation.novelty import describe_sample
from skyloom.learning.comparison import (
    PREDICTION_COLUMNS,
    Comparison,
    compare_configurations,
    make_task,
    no_comparison,
    scorer,
)
from skyloom.learning.fitting import calibrate, prepare_process
from skyloom.learning.sweep import (
    FailedTask,
    Finished,
    ResultStore,
    Task,
    run_procedures,
)
from skyloom.pipelines.hi_profiles.features import image_format
from skyloom.pipelines.hi_profiles.fitting import (
    build_network,
    code,
    fit_network,
    fit_settings,
    fit_task,
    network_input,
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
    wanted = sweep.pretrained
    if not wanted:
        return {}
    from skyloom.learning.fitting import unpack

    loaded = {variant: np.asarray(load()) for variant, load in pretraining_images.items()}
    bar = tqdm(total=len(wanted), desc="pre-training", unit="network")

    def procedure(name, member):
        settings = {
            "network": member.network.model_dump(mode="json"),
            "quadrant": member.features.quadrant,
            "images": member.image_variant,
            **pretraining.model_dump(exclude={"n_profiles"}),
        }
        (result,) = yield [
            Task(settings, {"targets": pretraining_targets}, (member.image_variant,))
        ]
        yield Finished((name, member, result))

    networks = {}
    with connect(cluster, max(m.features.size for m in wanted.values())) as (client, threads):
        for name, member, result in run_procedures(
            [procedure(*item) for item in wanted.items()],
            partial(pretrain_task, threads=threads),
            loaded,
            finished_fits,
            client,
            code=code(),
        ):
            if isinstance(result, FailedTask):
                msg = f"pre-training of {name} failed: {result.error}"
                raise RuntimeError(msg)
            shape = network_input(
                loaded[member.image_variant],
                np.arange(1),
                member.network,
                quadrant=member.features.quadrant,
            )
            networks[name] = partial(
                _network_with, member.network, shape.shape[1:], pretraining_targets.shape[1],
                unpack(result, "weight"),
            )  # fmt: skip
            bar.update()
    bar.close()
    return networks


def _network_with(network, shape, n_targets, weights):
    model = build_network(network, shape, -n_targets, 0)
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
        ``configuration``, ``seed``, ``fold``, ``id``, ``class``, ``predicted``,
        ``probability_0`` ...
    """
    if split_manifest.empty:
        return pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    n_classes = int(split_manifest["class"].max()) + 1
    indices = baseline_features(profiles, fits, asymmetry)
    regression = logistic_regression(balanced=augmentation.balance_classes)
    tables = [
        cross_predict(classifier, features, split_manifest, n_classes).assign(configuration=name)
        for name, classifier, features in (
            (A_FLUX_BASELINE, regression, indices[["a_flux"]]),
            (ALL_INDICES_BASELINE, regression, indices),
            (MAJORITY_BASELINE, majority(), indices[["a_flux"]]),
        )
    ]
    return pd.concat(tables, ignore_index=True)


def baseline_features(
    profiles: pd.DataFrame, fits: pd.DataFrame, asymmetry: pd.DataFrame
) -> pd.DataFrame:
    """Asymmetry indices and S/N, as the logistic regressions take them.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``. Ratios are logarithms, the velocity of equality is its distance from
        V_m in units of W20.
    """
    offset = (asymmetry["equality_velocity"] - asymmetry["mid_velocity"]).abs()
    indices = pd.DataFrame(
        {
            "a_flux": np.log(asymmetry["a_flux"]),
            "lopsidedness": asymmetry["lopsidedness"],
            "channel_asymmetry": asymmetry["channel_asymmetry"],
            "a_f": np.log(asymmetry["a_f"]),
            "a_c": np.log(asymmetry["a_c"]),
            "c_v": asymmetry["c_v"],
            "equality_offset": offset / fits["w20"],
            "snr": np.log(profiles["snr"]),
        }
    )
    indices.index = pd.Index(profiles["id"], name="id")
    return indices


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
    if split_manifest.empty:
        return no_comparison()
    n_classes = int(split_manifest["class"].max()) + 1
    return compare_configurations(
        sweep,
        split_manifest,
        profiles["id"].to_numpy(),
        _shared_inputs(images, augmentation_manifest, augmented_images, pretrained_networks),
        partial(make_task, partial(_settings, n_classes), INPUTS, sweep.parameters.seed),
        fit_task,
        finished_fits,
        cluster,
        code=code(),
        score=scorer(baseline_predictions, A_FLUX_BASELINE, split_manifest),
        log=tracking.log_child,
        n_inner_folds=sweep.base.augmentation.n_inner_folds,
    )


def _settings(n_classes, family, _split, seed):
    return fit_settings(family, n_classes, seed)


def _shared_inputs(images, copies, augmented_images, pretrained):
    """What the fits read, by name."""
    shared = {f"images {variant}": np.asarray(load()) for variant, load in images.items()}
    for variant, load in augmented_images.items():
        profile = copies.loc[copies["variant"] == variant, "profile"].to_numpy(int)
        shared[f"copies {variant}"] = {"images": np.asarray(load()), "profile": profile}
    for name, load in pretrained.items():
        shared[f"pretrained {name}"] = load().get_weights()
    return shared


# --- the network for new spectra ------------------------------------------------------------------


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
    network : keras.Model
        Its probabilities are calibrated; untrained where there was nothing to train on.
    description : dict
        What is needed to use it: ``trained``, ``configuration``, ``class_names``,
        ``class_values``, ``temperature``, ``calibration_error`` before and after, and ``sample``,
        which tells galaxies unlike those of the training.
    example : numpy.ndarray of float32
        One input.
    """
    prepare_process(0)
    base = sweep.base
    if outcome["chosen"] is None:
        channels = image_format(base.features)[0] * len(base.network.image_models)
        shape = (base.features.size,) * 2 + (channels,)
        if base.network.architecture == "folded_cnn":
            shape = shape[1:]
        untrained = build_network(base.network, shape, 2, 0)
        return untrained, {"trained": False}, np.zeros((1, *shape), np.float32)
    chosen = Configuration.model_validate(outcome["chosen"])
    used = classes[classes["used"]]
    rows, labels = used.index.to_numpy(), used["class"].to_numpy(np.int32)
    n_classes = int(labels.max()) + 1
    shared = _shared_inputs(images, augmentation_manifest, augmented_images, pretrained_networks)
    settings = fit_settings([chosen], n_classes, sweep["parameters"]["seed"])
    weights = shared[settings["pretrained"]] if settings["pretrained"] else None
    train = training_data(settings, rows, labels, shared)
    network, snapshots, _ = fit_network(settings, train, None, weights)
    network.set_weights(snapshots[0].weights)

    calibration = calibrate(network, validation_predictions)
    likeness = sample_features(profiles, fits, asymmetry)
    description = {
        "trained": True,
        "configuration": chosen.model_dump(mode="json"),
        "class_names": class_names(classes, reporting.class_names),
        "class_values": class_values(classes),
        "n_galaxies": len(used),
        "label_source": str(classes["label_source"].iloc[0]),
        **calibration,
        "sample": describe_sample(likeness.loc[used["id"]]),
    }
    return network, description, train[0][:1]


def sample_features(
    profiles: pd.DataFrame, fits: pd.DataFrame, asymmetry: pd.DataFrame
) -> pd.DataFrame:
    """What decides whether a profile is like those of the training sample.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``: `baseline_features` and the logarithm of W20 in km/s.
    """
    features = baseline_features(profiles, fits, asymmetry)
    return features.assign(w20=np.log(fits["w20"].to_numpy()))


def class_values(classes: pd.DataFrame) -> list[int]:
    """What the classes are called in the label table, in the order of the network's outputs.

    Parameters
    ----------
    classes : pandas.DataFrame
        From `skyloom.pipelines.hi_profiles.augmentation.choose_classes`.

    Returns
    -------
    list of int
    """
    used = classes[classes["used"]]
    return used.drop_duplicates("class").sort_values("class")["class_value"].astype(int).tolist()


def class_names(classes: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Names of the classes in use; of a two-class sample, those of its values in the label table.

    Parameters
    ----------
    classes : pandas.DataFrame
        From `skyloom.pipelines.hi_profiles.augmentation.choose_classes`.
    names : sequence of str
        By value in the label table.

    Returns
    -------
    list of str
        Numbers where there is no name.
    """
    return [
        names[value] if value < len(names) else f"class {value}" for value in class_values(classes)
    ]
