"""Node functions of the training: pre-training, the sweep, the audit and the final network."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom import tracking
from skyloom.compute import ClusterParameters, connect
from skyloom.evaluation.audit import TestedFit, best_of, published_rates, shuffled_rates
from skyloom.evaluation.baselines import cross_predict, logistic_regression, majority
from skyloom.evaluation.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
)
from skyloom.evaluation.novelty import describe_sample
from skyloom.evaluation.scores import score_beside
from skyloom.learning.nested import (
    CURVES,
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
from skyloom.learning.sweep import (
    FailedTask,
    Finished,
    ResultStore,
    Task,
    code_digest,
    run_procedures,
)
from skyloom.pipelines.hi_profiles.features import image_format
from skyloom.pipelines.hi_profiles.parameters import (
    AuditParameters,
    AugmentationParameters,
    Configuration,
    NetworkParameters,
    PretrainingParameters,
    ReportingParameters,
    Sweep,
    TrainingParameters,
)

# MLflow cuts names to ten characters in its plots: they differ before that.
A_FLUX_BASELINE = "A_flux, logistic regression"
ALL_INDICES_BASELINE = "all indices and S/N, logistic regression"
MAJORITY_BASELINE = "majority class"

PREDICTION_COLUMNS = ("configuration", "seed", "fold", "id", "class", "predicted")
INNER_COLUMNS = ("configuration", "seed", "fold", "inner", "score", "best_epoch")
CURVE_COLUMNS = ("configuration", "seed", "fold", "inner", "epoch", *CURVES, "best_epoch")


# --- one fit, on any machine ----------------------------------------------------------------------


def network_input(images: np.ndarray, rows: np.ndarray, network: NetworkParameters) -> np.ndarray:
    """Images of some rows as a network takes them.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, 3, size, size, channels)
        May be memory-mapped.
    rows : numpy.ndarray of int, shape (k,)
        Which.
    network : NetworkParameters
        Image models to stack as channels, and whether it sees the images or their radius alone.

    Returns
    -------
    numpy.ndarray of float32, shape (k, size, size, channels) or (k, radii, channels)
        Eight-bit colours are divided by 255, other images multiplied by the input scale.
    """
    if network.architecture == "folded_cnn":
        # The first row of a quadrant, or the middle one of a whole image, is the profile along
        # the radius, but for half a pixel.
        size = images.shape[2]
        whole = images.dtype == np.uint8
        images = images[:, :, size // 2, size // 2 :] if whole else images[:, :, 0]
    picked = np.concatenate([images[rows, model - 1] for model in network.image_models], axis=-1)
    if picked.dtype == np.uint8:
        return picked.astype(np.float32) / 255
    return picked.astype(np.float32, copy=False) * np.float32(network.input_scale)


def build_network(
    network: NetworkParameters, input_shape: Sequence[int], n_outputs: int, seed: int
) -> Any:
    """Untrained network; it predicts numbers where it is to be pre-trained.

    Parameters
    ----------
    network : NetworkParameters
        Architecture.
    input_shape : sequence of int
        Of one input.
    n_outputs : int
        Classes; or minus the number of targets of the pre-training.
    seed : int
        Of the weights.

    Returns
    -------
    keras.Model
    """
    from skyloom.nets.folded_cnn import folded_cnn
    from skyloom.nets.ring_cnn import ring_cnn

    build = folded_cnn if network.architecture == "folded_cnn" else ring_cnn
    return build(
        tuple(input_shape),
        abs(n_outputs),
        widths=network.widths,
        padding=network.padding,
        activation="softmax" if n_outputs > 0 else None,
        seed=seed,
    )


def _classifier(network, training, input_shape, n_classes, seed, weights):
    """Untrained classifier, on pre-trained weights where it starts from them."""
    if training.start == "scratch":
        return build_network(network, input_shape, n_classes, seed)
    from skyloom.nets.pretrained import classifier_on

    # The last weight is the bias of the last layer: as many numbers as targets.
    backbone = build_network(network, input_shape, -len(weights[-1]), seed)
    backbone.set_weights(weights)
    return classifier_on(backbone, n_classes, frozen=training.start == "frozen", seed=seed)


@functools.lru_cache(maxsize=8)
def _compiled(network_json, training_json, input_shape, n_classes, n_targets):
    """Compiled network, to be reused by all fits of this process: tracing it takes seconds."""
    import keras

    network = NetworkParameters.model_validate_json(network_json)
    training = TrainingParameters.model_validate_json(training_json)
    weights = None
    if n_targets:
        weights = build_network(network, input_shape, -n_targets, 0).get_weights()
    model = _classifier(network, training, input_shape, n_classes, 0, weights)
    model.compile(
        optimizer=keras.optimizers.AdamW(1.0, weight_decay=training.weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def learning_rate(training: TrainingParameters) -> float:
    """Learning rate that goes with the start.

    Parameters
    ----------
    training : TrainingParameters
        ``hi_profiles.training``.

    Returns
    -------
    float
    """
    return {
        "scratch": training.learning_rate,
        "frozen": training.frozen_learning_rate,
        "fine_tuned": training.fine_tuned_learning_rate,
    }[training.start]


def fit_network(
    settings: dict[str, Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
    weights: list[np.ndarray] | None,
) -> tuple[Any, list[Any], pd.DataFrame]:
    """Fit one network, for as many numbers of epochs as configurations share it.

    Parameters
    ----------
    settings : dict
        ``network``, ``training``, ``epochs``, ``n_classes``, ``seed`` and ``balance``.
    train, validation : tuple of (inputs, classes)
        From `network_input`.
    weights : list of numpy.ndarray, optional
        Of the pre-trained network it starts from.

    Returns
    -------
    model : keras.Model
        Its weights are to be set from a snapshot; it belongs to the next fit, too.
    snapshots, history
        From `skyloom.learning.fitting.fit_classifier`.
    """
    from skyloom.learning.fitting import balanced_rows, fit_classifier, restart

    network = NetworkParameters.model_validate(settings["network"])
    training = TrainingParameters.model_validate(settings["training"])
    seed, shape = settings["seed"], train[0].shape[1:]
    n_targets = 0 if weights is None else len(weights[-1])
    model = _compiled(
        network.model_dump_json(), training.model_dump_json(), shape, settings["n_classes"],
        n_targets,
    )  # fmt: skip
    fresh = _classifier(network, training, shape, settings["n_classes"], seed, weights)
    restart(model, fresh, learning_rate(training))
    if settings["balance"]:
        rows = balanced_rows(train[1], np.random.default_rng(seed))
        train = train[0][rows], train[1][rows]
    snapshots, history = fit_classifier(
        model,
        train,
        validation,
        epochs=settings["epochs"],
        batch_size=training.batch_size,
        patience=training.patience,
        min_epochs=training.min_epochs,
        seed=seed,
    )
    return model, snapshots, history


def training_data(
    settings: dict[str, Any], rows: np.ndarray, classes: np.ndarray, shared: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and classes to train on: galaxies as observed, then their copies.

    Parameters
    ----------
    settings : dict
        ``network``, ``images`` and ``copies`` (names of the shared inputs).
    rows, classes : numpy.ndarray of int, shape (n,)
        Galaxies and their classes.
    shared : dict
        Images; copies with the galaxy of each.

    Returns
    -------
    inputs, classes : numpy.ndarray
    """
    network = NetworkParameters.model_validate(settings["network"])
    inputs = [network_input(shared[settings["images"]], rows, network)]
    labels = [classes]
    if settings["copies"]:
        copies = shared[settings["copies"]]
        class_of = pd.Series(classes, index=rows)
        chosen = np.flatnonzero(np.isin(copies["profile"], rows))
        inputs.append(network_input(copies["images"], chosen, network))
        labels.append(class_of.loc[copies["profile"][chosen]].to_numpy())
    return np.concatenate(inputs), np.concatenate(labels)


def fit_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Fit on one split and predict its validation and test objects; runs on any worker.

    Parameters
    ----------
    settings : dict
        As in `fit_network` and `training_data`.
    arrays : dict
        Rows ``train``, ``validation``, ``test``, and the classes of the first two.
    shared : dict
        Images, copies, pre-trained weights.
    threads : int
        TensorFlow threads.

    Returns
    -------
    dict of numpy.ndarray
        ``validation_probability`` and ``test_probability`` (lengths, n, n_classes), ``history``
        (epochs, 4), ``lengths`` (epochs trained) and ``best_epoch`` (lengths,).
    """
    _prepare_process(threads)
    from skyloom.learning.fitting import predict

    network = NetworkParameters.model_validate(settings["network"])
    inputs = {
        role: network_input(shared[settings["images"]], arrays[role], network)
        for role in ("validation", "test")
    }
    train = training_data(settings, arrays["train"], arrays["train_classes"], shared)
    validation = (inputs["validation"], arrays["validation_classes"])
    weights = shared[settings["pretrained"]] if settings["pretrained"] else None
    model, snapshots, history = fit_network(settings, train, validation, weights)
    probability = {"validation": [], "test": []}
    for snapshot in snapshots:
        model.set_weights(snapshot.weights)
        for role, parts in probability.items():
            parts.append(predict(model, inputs[role]))
    return {
        "validation_probability": np.stack(probability["validation"]),
        "test_probability": np.stack(probability["test"]),
        "history": history[list(CURVES)].to_numpy(np.float32),
        "lengths": np.minimum(settings["epochs"], len(history)),
        "best_epoch": np.array([snapshot.best_epoch for snapshot in snapshots]),
    }


def pretrain_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Train a network to tell noiseless asymmetries from noisy images; runs on any worker.

    Parameters
    ----------
    settings : dict
        ``network``, ``images``, ``epochs``, ``batch_size``, ``learning_rate`` and ``seed``.
    arrays : dict
        ``targets`` (n, k).
    shared : dict
        Simulated images.
    threads : int
        TensorFlow threads.

    Returns
    -------
    dict of numpy.ndarray
        Weights, and ``history``: mean squared error of each epoch.
    """
    _prepare_process(threads)
    import keras

    from skyloom.learning.fitting import pack

    network = NetworkParameters.model_validate(settings["network"])
    targets = arrays["targets"]
    inputs = network_input(shared[settings["images"]], np.arange(len(targets)), network)
    model = build_network(network, inputs.shape[1:], -targets.shape[1], settings["seed"])
    steps = settings["epochs"] * -(-len(inputs) // settings["batch_size"])
    schedule = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], steps)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-5), loss="mse")
    keras.utils.set_random_seed(settings["seed"])
    run = model.fit(
        inputs, targets, batch_size=settings["batch_size"], epochs=settings["epochs"], verbose=0
    )
    return pack(model.get_weights(), "weight") | {"history": np.array(run.history["loss"])}


def _prepare_process(threads):
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from skyloom.learning.fitting import limit_threads

    tf.get_logger().setLevel("ERROR")
    limit_threads(threads)


def _code() -> str:
    return code_digest(
        "skyloom.learning.fitting",
        "skyloom.nets.folded_cnn",
        "skyloom.nets.pretrained",
        "skyloom.nets.ring_cnn",
        "skyloom.pipelines.hi_profiles.training",
    )


# --- nodes ----------------------------------------------------------------------------------------


def pretrain_networks(
    images: dict[str, Callable[[], np.ndarray]],
    targets: np.ndarray,
    plan: dict[str, Any],
    store: ResultStore,
    parameters: PretrainingParameters,
    cluster: ClusterParameters,
) -> dict[str, Callable[[], Any]]:
    """Train every network that the sweep starts from on the simulated profiles.

    Parameters
    ----------
    images : dict of str to callable
        Simulated images by variant.
    targets : numpy.ndarray, shape (n, k)
        What they are to be told.
    plan : dict
        From `skyloom.pipelines.hi_profiles.ingestion.configure_sweep`.
    store : ResultStore
        Where finished trainings are kept.
    parameters : PretrainingParameters
        ``hi_profiles.pretraining``.
    cluster : ClusterParameters
        ``cluster``.

    Returns
    -------
    dict of str to callable
        Function that returns the network, by its name.

    Raises
    ------
    RuntimeError
        If a training fails: nothing could start from it.
    """
    wanted = Sweep.model_validate(plan).pretrained
    if not wanted:
        return {}
    from skyloom.learning.fitting import unpack

    loaded = {variant: np.asarray(load()) for variant, load in images.items()}
    bar = tqdm(total=len(wanted), desc="pre-training", unit="network")

    def procedure(name, member):
        settings = {
            "network": member.network.model_dump(mode="json"),
            "images": member.image_variant,
            **parameters.model_dump(exclude={"n_profiles"}),
        }
        (result,) = yield [Task(settings, {"targets": targets}, (member.image_variant,))]
        yield Finished((name, member, result))

    networks = {}
    with connect(cluster, max(m.features.size for m in wanted.values())) as (client, threads):
        for name, member, result in run_procedures(
            [procedure(*item) for item in wanted.items()],
            partial(pretrain_task, threads=threads),
            loaded,
            store,
            client,
            code=_code(),
        ):
            if isinstance(result, FailedTask):
                msg = f"pre-training of {name} failed: {result.error}"
                raise RuntimeError(msg)
            shape = network_input(loaded[member.image_variant], np.arange(1), member.network)
            networks[name] = partial(
                _network_with, member.network, shape.shape[1:], targets.shape[1],
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
    manifest: pd.DataFrame,
    augmentation: AugmentationParameters,
) -> pd.DataFrame:
    """Classical classifiers on the outer folds.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies.
    manifest : pandas.DataFrame
        The split.
    augmentation : AugmentationParameters
        ``hi_profiles.augmentation``: whether every class weighs the same.

    Returns
    -------
    pandas.DataFrame
        ``configuration``, ``seed``, ``fold``, ``id``, ``class``, ``predicted``,
        ``probability_0`` ...
    """
    if manifest.empty:
        return pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    n_classes = int(manifest["class"].max()) + 1
    indices = baseline_features(profiles, fits, asymmetry)
    regression = logistic_regression(balanced=augmentation.balance_classes)
    tables = [
        cross_predict(classifier, features, manifest, n_classes).assign(configuration=name)
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
    manifest: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    copies: pd.DataFrame,
    augmented_images: dict[str, Callable[[], np.ndarray]],
    pretrained: dict[str, Callable[[], Any]],
    baselines: pd.DataFrame,
    plan: dict[str, Any],
    store: ResultStore,
    cluster: ClusterParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Nested cross-validation of every configuration, and of the whole on shuffled classes.

    Parameters
    ----------
    profiles, manifest : pandas.DataFrame
        The accepted galaxies and the split, with their classes.
    images, augmented_images : dict of str to callable
        Observed images and copies by variant.
    copies : pandas.DataFrame
        Which copy is of which galaxy.
    pretrained : dict of str to callable
        From `pretrain_networks`.
    baselines : pandas.DataFrame
        From `fit_baselines`; they stand beside every configuration that is logged.
    plan : dict
        From `skyloom.pipelines.hi_profiles.ingestion.configure_sweep`.
    store : ResultStore
        Where finished fits are kept; what is there is not fitted again.
    cluster : ClusterParameters
        ``cluster``.

    Returns
    -------
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
        Predictions of inner validation objects by the configuration chosen for new spectra.
    sweep : dict
        ``chosen`` (that configuration, its epochs in place of their limit), ``configurations``
        (all, by name), and ``failed`` (error by name).
    """
    sweep = Sweep.model_validate(plan)
    tables = {
        "predictions": [pd.DataFrame(columns=list(PREDICTION_COLUMNS))],
        "inner": [pd.DataFrame(columns=list(INNER_COLUMNS))],
        "curves": [pd.DataFrame(columns=list(CURVE_COLUMNS))],
    }
    found = {"chosen": None, "configurations": {}, "failed": {}}
    null = pd.DataFrame(columns=["permutation", "balanced_accuracy"])
    if manifest.empty:
        return *(part[0] for part in tables.values()), null, tables["predictions"][0], found
    ids = profiles["id"].to_numpy()
    shared = _shared_inputs(images, copies, augmented_images, pretrained)
    make_task = partial(_make_task, sweep, int(manifest["class"].max()) + 1)
    row_of = pd.Series(np.arange(len(profiles)), index=ids)
    n_inner = sweep.base.augmentation.n_inner_folds
    procedures = _procedures(sweep, splits_of(manifest, row_of), make_task, 0)
    for number in range(1, sweep.parameters.n_permutations + 1):
        shuffled = permuted_manifest(manifest, n_inner, sweep.parameters.seed + number)
        procedures += _procedures(sweep, splits_of(shuffled, row_of), make_task, number)

    validations: dict[str, pd.DataFrame] = {}
    shuffled_outcomes: dict[int, list[Outcome]] = {}
    progress = _Progress(manifest)
    with connect(cluster, max(m.features.size for m in sweep.variants.values())) as (client, n):
        for outcome in run_procedures(
            procedures, partial(fit_task, threads=n), shared, store, client,
            code=_code(), on_task=progress.task,
        ):  # fmt: skip
            if outcome.permutation:
                shuffled_outcomes.setdefault(outcome.permutation, []).append(outcome)
                continue
            name, configuration = outcome.name, outcome.configuration
            found["configurations"][name] = configuration and configuration.model_dump(mode="json")
            if outcome.error:
                found["failed"][name] = outcome.error
                tracking.log_child(failed_run(configuration, name, outcome.error))
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
            tracking.log_child(
                network_run(configuration, table, inner, curves, baselines, manifest)
            )
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
        columns=list(null.columns),
    )
    chosen = inner.groupby("configuration", sort=False)["score"].mean().idxmax()
    epochs = int(inner.loc[inner["configuration"] == chosen, "best_epoch"].median())
    found["chosen"] = dict(found["configurations"][chosen])
    found["chosen"]["training"] = {**found["chosen"]["training"], "epochs": epochs}
    order = {name: number for number, name in enumerate(sorted(found["configurations"]))}
    by_name = {"key": lambda names: names.map(order), "kind": "stable", "ignore_index": True}
    return (
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


def _shared_inputs(images, copies, augmented_images, pretrained):
    """What the fits read, by name."""
    shared = {f"images {variant}": np.asarray(load()) for variant, load in images.items()}
    for variant, load in augmented_images.items():
        profile = copies.loc[copies["variant"] == variant, "profile"].to_numpy(int)
        shared[f"copies {variant}"] = {"images": np.asarray(load()), "profile": profile}
    for name, load in pretrained.items():
        shared[f"pretrained {name}"] = load().get_weights()
    return shared


def fit_settings(family: Sequence[Configuration], n_classes: int, seed: int) -> dict[str, Any]:
    """Everything but the data that one fit depends on.

    Parameters
    ----------
    family : sequence of Configuration
        That differ only in their epochs.
    n_classes : int
        Number of classes.
    seed : int
        Of the weights, dropout and batches.

    Returns
    -------
    dict
    """
    first = family[0]
    start = first.training.start
    copies = f"copies {first.variant}" if first.augmentation.n_copies else None
    return {
        "network": first.network.model_dump(mode="json"),
        "training": first.training.model_dump(mode="json") | {"epochs": 1},
        "epochs": [configuration.training.epochs for configuration in family],
        "balance": first.augmentation.balance_classes,
        "images": f"images {first.image_variant}",
        "copies": copies,
        "pretrained": None if start == "scratch" else f"pretrained {first.pretrained_name}",
        "n_classes": n_classes,
        "seed": seed,
    }


def _make_task(sweep, n_classes, family, split: Split) -> Task:
    """The fit of some configurations on one inner fold."""
    key = [sweep.parameters.seed, split.seed, split.fold, split.inner]
    # Keras takes seeds below 2^31 / 1000, for the network spends a thousand of them.
    seed = int(np.random.default_rng(key).integers(2**20))
    settings = fit_settings(family, n_classes, seed)
    arrays = {
        "train": split.train,
        "validation": split.validation,
        "test": split.test,
        "train_classes": split.classes[split.train].astype(np.int32),
        "validation_classes": split.classes[split.validation].astype(np.int32),
    }
    used = [settings[name] for name in ("images", "copies", "pretrained")]
    return Task(settings, arrays, tuple(name for name in used if name))


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
        self._best = (0.0, "none yet")
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
        self._bar.set_postfix_str(
            f"best inner balanced accuracy {score:.3f} ({name}), chance {self._chance:.3f}"
        )

    def close(self) -> None:
        self._bar.close()


# --- what MLflow is told of a configuration ------------------------------------------------------


def run_parameters(configuration: Configuration | None, name: str, kind: str) -> dict[str, Any]:
    """Parameters of a child run; the same keys for networks and baselines.

    Parameters
    ----------
    configuration : Configuration or None
        None for a baseline.
    name, kind : str
        Of the run.

    Returns
    -------
    dict of str to value
    """
    sections = (("features", "size rendering quadrant extent"), ("augmentation", "n_copies"))
    fields = {section: names.split() for section, names in sections}
    fields["network"] = list(NetworkParameters.model_fields)
    fields["training"] = list(TrainingParameters.model_fields)
    values = {"configuration": name, "kind": kind}
    for section, names in fields.items():
        for field in names:
            value = getattr(getattr(configuration, section), field) if configuration else "none"
            values[field] = "-".join(map(str, value)) if isinstance(value, tuple) else value
    return values


def failed_run(configuration: Configuration | None, name: str, error: str) -> dict[str, Any]:
    """Child run of a configuration that failed or was pruned.

    Parameters
    ----------
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
        "params": run_parameters(configuration, name, "network"),
        "metrics": {},
        "curves": {},
        "tags": {"error": error},
        "status": "FINISHED" if pruned else "FAILED",
    }


def network_run(
    configuration: Configuration,
    predictions: pd.DataFrame,
    inner: pd.DataFrame,
    curves: pd.DataFrame,
    baselines: pd.DataFrame,
    manifest: pd.DataFrame,
) -> dict[str, Any]:
    """Child run of a configuration.

    Parameters
    ----------
    configuration : Configuration
        Which.
    predictions, inner, curves : pandas.DataFrame
        Its results.
    baselines, manifest : pandas.DataFrame
        What stands beside them.

    Returns
    -------
    dict
        ``name``, ``params``, ``metrics`` and ``curves`` (metric name to a list over epochs, mean
        over folds), and the curves of each outer fold.
    """
    scores = scores_beside_baseline(predictions, baselines, manifest)
    means = curves.groupby("epoch")[list(CURVES)].mean()
    by_fold = curves.groupby(["seed", "fold", "epoch"])["val_accuracy"].mean()
    return {
        "name": configuration.name,
        "params": run_parameters(configuration, configuration.name, "network"),
        "metrics": scores | {"inner_score": float(inner["score"].mean())},
        "curves": {f"epoch_{name}": means[name].tolist() for name in means}
        | {
            f"fold_{seed}.{fold}_val_accuracy": part.tolist()
            for (seed, fold), part in by_fold.groupby(["seed", "fold"])
        },
    }


def scores_beside_baseline(
    predictions: pd.DataFrame, baselines: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0
) -> dict[str, float]:
    """Scores of one set of predictions, with the difference to the A_flux baseline.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of one configuration.
    baselines : pandas.DataFrame
        From `fit_baselines`.
    manifest : pandas.DataFrame
        The split, for the number of classes.
    seed : int
        Of the permutation test and the bootstrap.

    Returns
    -------
    dict of str to float
    """
    reference = baselines[baselines["configuration"] == A_FLUX_BASELINE]
    n_classes = int(manifest["class"].max()) + 1
    return score_beside(predictions, reference, n_classes, np.random.default_rng(seed))


# --- the published protocol, audited --------------------------------------------------------------

AUDIT_COLUMNS = (
    "labels", "test_size", "split_seed", "epochs", "widths", "n_test", "n_predicted_classes",
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
    plan: dict[str, Any],
    store: ResultStore,
    parameters: AuditParameters,
    cluster: ClusterParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Run the published protocol to the letter, with three kinds of training labels.

    Validation objects are the test objects, every relabeling is tried on the test objects,
    predictions of one class are skipped, the best of the grid is chosen by its test objects, and
    refitted. Nothing of it enters any other result.

    Parameters
    ----------
    profiles, classes : pandas.DataFrame
        The accepted galaxies and their classes.
    images : dict of str to callable
        Observed images by variant; those of the base settings are used.
    plan : dict
        From `skyloom.pipelines.hi_profiles.ingestion.configure_sweep`.
    store : ResultStore
        Where finished fits are kept.
    parameters : AuditParameters
        ``hi_profiles.audit``.
    cluster : ClusterParameters
        ``cluster``.

    Returns
    -------
    fits : pandas.DataFrame
        One row a configuration and kind of labels, with the columns `AUDIT_COLUMNS`; the last one
        is the success rate of the winner fitted once more.
    predictions : pandas.DataFrame
        Of every fit for its test objects: the first five columns of ``fits``, ``id``,
        ``predicted``, ``probability_0`` ..., ``class``.
    null : pandas.DataFrame
        ``labels``, ``relabeled`` and ``best``: best success rate of the grid on classes shuffled
        after the fits, for many shuffles.

    References
    ----------
    arXiv:2501.11657 and its documentation.
    """
    sweep = Sweep.model_validate(plan)
    used = np.flatnonzero(classes["used"])
    truth = classes["class"].fillna(-1).to_numpy(int)
    n_classes = len(np.unique(truth[used]))
    fits = pd.DataFrame(columns=list(AUDIT_COLUMNS))
    null = pd.DataFrame(columns=["labels", "relabeled", "best"])
    if not parameters.test_sizes or n_classes < 2 or len(used) < 10:
        return fits, pd.DataFrame(columns=[*AUDIT_COLUMNS[:5], "id", "predicted", "class"]), null
    base = sweep.base
    if base.image_variant not in images:
        msg = f"the base settings' images {base.image_variant} are not among {sorted(images)}"
        raise ValueError(msg)
    shared = {f"images {base.image_variant}": np.asarray(images[base.image_variant]())}
    labels = _audit_labels(truth, used, n_classes, parameters.seed)
    procedures = [
        _audit_procedure(kind, parameters, base, used, *labels[kind], n_classes)
        for kind in AUDIT_LABELS
    ]
    tables, predictions, nulls = [], [], []
    with (
        connect(cluster, base.features.size) as (client, threads),
        tqdm(desc="published protocol", unit="fit", total=0) as bar,
    ):

        def task(done, known):
            bar.total = known
            bar.update(done - bar.n)

        for kind, table, tested, probabilities in run_procedures(
            procedures, partial(fit_task, threads=threads), shared, store, client,
            code=_code(), on_task=task,
        ):  # fmt: skip
            scored = labels[kind][1]
            for row, fit, probability in zip(
                table.to_dict("records"), tested, probabilities, strict=True
            ):
                part = {name: row[name] for name in AUDIT_COLUMNS[:5]}
                part |= {"id": profiles["id"].to_numpy()[fit.rows], "predicted": fit.predicted}
                part |= {f"probability_{k}": probability[:, k] for k in range(n_classes)}
                predictions.append(pd.DataFrame(part | {"class": scored[fit.rows]}))
            for relabel in (False, True):
                # Objects without a class are in no test set.
                rates = shuffled_rates(
                    scored[used], [_within(fit, used) for fit in tested], n_classes,
                    np.random.default_rng([parameters.seed, 3]),
                    n_shuffles=parameters.n_shuffles, relabel=relabel,
                )  # fmt: skip
                best = {"labels": kind, "relabeled": relabel, "best": best_of(rates)}
                nulls.append(pd.DataFrame(best))
            tables.append(table)
    by_kind = {"key": lambda names: names.map(list(AUDIT_LABELS).index), "kind": "stable"}
    return tuple(
        pd.concat(parts).sort_values("labels", ignore_index=True, **by_kind)
        for parts in (tables, predictions, nulls)
    )


def _within(fit: TestedFit, used: np.ndarray) -> TestedFit:
    return TestedFit(np.searchsorted(used, fit.rows), fit.predicted)


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

    tasks, rows = [], []
    for widths, test_size, split_seed in itertools.product(
        parameters.widths, parameters.test_sizes, parameters.split_seeds
    ):
        family = [
            base.changed(
                "published",
                {
                    "network.widths": widths,
                    "training.epochs": epochs,
                    "training.start": "scratch",
                    "training.patience": None,
                    "augmentation.n_copies": 0,
                    "augmentation.balance_classes": False,
                },
            )
            for epochs in parameters.epochs
        ]
        train, test = train_test_split(used, test_size=test_size, random_state=split_seed)
        train, test = np.sort(train), np.sort(test)
        seed = int(np.random.default_rng([parameters.seed, 2, len(tasks)]).integers(2**20))
        settings = fit_settings(family, n_classes, seed)
        arrays = {"train": train, "validation": test, "test": test}
        for role in ("train", "validation"):
            arrays[f"{role}_classes"] = training_labels[arrays[role]].astype(np.int32)
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
    probabilities = [results[r["task"]]["test_probability"][r["position"]] for r in rows]
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
            probability = result["test_probability"][table.loc[winner, "position"]]
            fit = TestedFit(again.arrays["test"], probability.argmax(axis=1))
            table.loc[winner, "refitted"] = published_rates(scored, [fit], n_classes)[0]
    yield Finished((kind, table[list(AUDIT_COLUMNS)], tested, probabilities))


# --- the network for new spectra ------------------------------------------------------------------


def fit_final_network(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    classes: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    copies: pd.DataFrame,
    augmented_images: dict[str, Callable[[], np.ndarray]],
    pretrained: dict[str, Callable[[], Any]],
    validation: pd.DataFrame,
    sweep: dict[str, Any],
    plan: dict[str, Any],
    reporting: ReportingParameters,
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Fit the chosen configuration to every labelled galaxy and calibrate it.

    Parameters
    ----------
    profiles, fits, asymmetry, classes : pandas.DataFrame
        The accepted galaxies.
    images, augmented_images, copies, pretrained
        As in `run_sweep`.
    validation : pandas.DataFrame
        Predictions of inner validation objects, for the temperature.
    sweep : dict
        From `run_sweep`.
    plan : dict
        From `skyloom.pipelines.hi_profiles.ingestion.configure_sweep`.
    reporting : ReportingParameters
        ``hi_profiles.reporting``, for the class names.

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
    _prepare_process(0)
    base = Sweep.model_validate(plan).base
    if sweep["chosen"] is None:
        channels = image_format(base.features)[0] * len(base.network.image_models)
        shape = (base.features.size,) * 2 + (channels,)
        if base.network.architecture == "folded_cnn":
            shape = shape[1:]
        untrained = build_network(base.network, shape, 2, 0)
        return untrained, {"trained": False}, np.zeros((1, *shape), np.float32)
    chosen = Configuration.model_validate(sweep["chosen"])
    used = classes[classes["used"]]
    rows, labels = used.index.to_numpy(), used["class"].to_numpy(np.int32)
    n_classes = int(labels.max()) + 1
    shared = _shared_inputs(images, copies, augmented_images, pretrained)
    settings = fit_settings([chosen], n_classes, plan["parameters"]["seed"])
    weights = shared[settings["pretrained"]] if settings["pretrained"] else None
    train = training_data(settings, rows, labels, shared)
    network, snapshots, _ = fit_network(settings, train, None, weights)
    network.set_weights(snapshots[0].weights)

    probability = validation[[f"probability_{k}" for k in range(n_classes)]].to_numpy()
    truth = validation["class"].to_numpy(int)
    temperature = fit_temperature(probability, truth)
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel / temperature, bias / temperature])
    likeness = sample_features(profiles, fits, asymmetry)
    description = {
        "trained": True,
        "configuration": chosen.model_dump(mode="json"),
        "class_names": class_names(classes, reporting.class_names),
        "class_values": class_values(classes),
        "n_galaxies": len(used),
        "label_source": str(classes["label_source"].iloc[0]),
        "temperature": temperature,
        "calibration_error": [
            expected_calibration_error(p, truth)
            for p in (probability, apply_temperature(probability, temperature))
        ],
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
