"""Node functions of the training: pre-training, the sweep, the audit and the final network."""

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
    prepare_process,
    pretrain_task,
    training_data,
)
from skyloom.pipelines.hi_profiles.parameters import (
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
            "quadrant": member.features.quadrant,
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
            code=code(), on_task=progress.task,
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
    chosen = inner.groupby("configuration")["score"].mean().idxmax()
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
    prepare_process(0)
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
