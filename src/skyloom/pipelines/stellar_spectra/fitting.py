"""One fit of the study, on any machine: everything its result depends on comes as arguments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from skyloom.evaluation.synthetic import diversity, spectrum_error
from skyloom.learning.fitting import (
    TrainingParameters,
    fit_equal_steps,
    fit_on_split,
    prepare_process,
)
from skyloom.pipelines.stellar_spectra.features import as_input
from skyloom.pipelines.stellar_spectra.parameters import (
    Configuration,
    FeatureParameters,
    NetworkParameters,
)

INPUTS = ("spectra", "synthetic")  # settings of a fit that name shared inputs
_N_COMPARED = 64  # made spectra from which a checkpoint is judged
_N_FRAME = 6  # spectra in a frame of the film of a training


def build_network(network: NetworkParameters, input_shape: Sequence[int], n: int, seed: int) -> Any:
    """Untrained network of so many classes; the seed is that of its weights."""
    from skyloom.nets.star_cnn import star_cnn

    return star_cnn(tuple(input_shape), n, **network.model_dump(), seed=seed)


def pool_name(arm: str, fold: int, prepared: str) -> str:
    """Name of the made spectra that an arm adds to the training of an outer fold."""
    return f"{arm}_fold_{fold}_{prepared}"


def fit_settings(
    family: Sequence[Configuration],
    fold: int,
    seed: int,
    *,
    n_classes: int,
    rare: int,
    pools: Collection[str],
) -> dict[str, Any]:
    """Everything but the data that one fit depends on.

    ``rare`` is the number of the rare class, -1 where the split has none; ``pools`` names the made
    spectra that there are, of which a fit may see those of its outer fold.
    """
    first = family[0]
    arm, features = first.augmentation.arm, first.features
    pool = pool_name(arm, fold, features.prepared)
    return {
        "network": first.network.model_dump(mode="json"),
        # Their numbers of epochs stand apart: one fit serves the whole family.
        "training": first.training.model_dump(mode="json") | {"epochs": 1},
        "epochs": [configuration.training.epochs for configuration in family],
        "features": features.model_dump(mode="json"),
        "spectra": f"spectra {first.input_variant}",
        "synthetic": pool if pool in pools else None,
        "balance": arm == "class weights",
        "n_classes": n_classes,
        "rare": rare,
        "seed": seed,
    }


def inputs_of(settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """Observed spectra of some rows as the network takes them, shape (n, ...)."""
    return np.asarray(shared[settings["spectra"]][rows])


def training_data(
    settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spectra and classes to train on: observed ones, and made ones of the rare class.

    Parameters
    ----------
    settings, shared
        From `fit_settings`, and inputs of all spectra and prepared made ones by pool.
    rows, classes : numpy.ndarray of int, shape (n,)
        Observed training spectra and their classes.

    Returns
    -------
    inputs : numpy.ndarray of float32, shape (k, ...)
    classes : numpy.ndarray of int32, shape (k,)
        With so many made ones that the rare class is as frequent as the median class.
    """
    inputs = inputs_of(settings, shared, rows)
    if not settings["synthetic"]:
        return inputs, classes
    counts = np.bincount(classes, minlength=settings["n_classes"])
    missing = max(0, int(np.median(counts)) - int(counts[settings["rare"]]))
    pool = shared[settings["synthetic"]]
    # Networks with other seeds are trained on other made spectra: the luck of their choice is
    # part of the scatter between seeds.
    rng = np.random.default_rng([settings["seed"], 1])
    chosen = np.resize(rng.permutation(len(pool)), missing)
    features = FeatureParameters.model_validate(settings["features"])
    made = as_input(np.asarray(pool[chosen]), features)
    kind = np.full(missing, settings["rare"], classes.dtype)
    return np.concatenate([inputs, made]), np.concatenate([classes, kind])


def fit_network(
    settings: dict[str, Any],
    _shared: dict[str, Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Any, list[Any], Any]:
    """Fit one network, see `skyloom.learning.fitting.fit_equal_steps`."""
    shape = FeatureParameters.model_validate(settings["features"]).input_shape
    network = NetworkParameters.model_validate(settings["network"])
    return fit_equal_steps(
        build_network,
        (network, shape, settings["n_classes"]),
        TrainingParameters.model_validate(settings["training"]),
        train,
        validation,
        epochs=settings["epochs"],
        seed=settings["seed"],
        balance=settings["balance"],
    )


def fit_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Fit a classifier on one split, see `skyloom.learning.fitting.fit_on_split`."""
    return fit_on_split(
        settings, arrays, shared, threads=threads, inputs_of=inputs_of,
        training_data=training_data, fit_network=fit_network,
    )  # fmt: skip


def train_generator_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Train networks that make spectra for some epochs, from the state that was left before.

    Settings are those of `skyloom.learning.generative.continue_training`, and the name of the
    ``images`` that are shared; arrays are ``classes``, and ``state_0`` ... of the piece before.

    Returns
    -------
    dict of numpy.ndarray
        ``state_0`` ..., ``history`` (epochs, 3), ``frame`` (n, size), of the same latent numbers
        in every piece, ``spectrum_error`` and ``diversity`` (training spectra have 1).
    """
    prepare_process(threads)
    from skyloom.learning.fitting import pack, unpack
    from skyloom.learning.generative import continue_training, make_images

    real = np.asarray(shared[settings["images"]])
    pair, history = continue_training(settings, real, arrays["classes"], unpack(arrays, "state"))
    rng = np.random.default_rng([settings["seed"], 3])
    made = make_images(pair.maker, np.zeros(_N_COMPARED, int), rng)
    return {
        **pack([np.asarray(variable) for variable in pair.variables], "state"),
        "history": history.to_numpy(float),
        "frame": made[:_N_FRAME, :, 0],
        "spectrum_error": np.array(spectrum_error(real[..., 0], made[..., 0])),
        "diversity": np.array(diversity(made) / diversity(real)),
    }
