"""Node function of the audit: the published recipe to the letter, beside the honest one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skyloom.compute import ClusterParameters
from skyloom.learning.fitting import (
    compiled,
    fit_classifier,
    predict,
    prepare_process,
    restart,
    unpack,
)
from skyloom.learning.generative import Training, make_images, maker_with, train_in_pieces
from skyloom.learning.tasks import ResultStore, Task, run_each
from skyloom.nets.star_cnn import published_star_cnn, used_taps
from skyloom.pipelines.stellar_spectra.features import prepare_all
from skyloom.pipelines.stellar_spectra.fitting import train_generator_task
from skyloom.pipelines.stellar_spectra.parameters import AuditParameters, Sweep
from skyloom.spectra.optical.spectral_types import CLASSES

AUDIT_COLUMNS = (
    "labels", "kernel_size", "repeat", "taps_used", "initial_scale", "n_train", "n_test",
    "n_made_in_test", "n_real_rare_in_test", "chance", "chance_of_real", "success_rate",
    "success_rate_of_real",
    "rare_recall", "rare_recall_of_real", "rare_precision",
)  # fmt: skip
_PUBLISHED_KERNEL = 3


def audit_published_recipe(
    sample: pd.DataFrame,
    stacked_spectra: np.ndarray,
    sweep: Sweep,
    finished_fits: ResultStore,
    audit: AuditParameters,
    cluster: ClusterParameters,
) -> tuple[pd.DataFrame, str]:
    """Run the published recipe: made spectra in the test part, a random split, a fixed network.

    Its generator is trained on all spectra of the rare class. The class is filled up with made
    spectra until it is as frequent as the others, and everything is split at random. That is done
    with the true classes, and with shuffled ones, which no spectrum can tell.

    Returns
    -------
    table : pandas.DataFrame
        `AUDIT_COLUMNS`, one row a fit: ``labels`` (true or shuffled); how many taps of the first
        kernel ever see anything and the standard deviation of their initial weights; success
        rates with all test spectra and with the observed ones alone.
    words : str
        What it says.

    Raises
    ------
    RuntimeError
        If a fit fails.
    """
    rare = sweep.base.augmentation.rare_class
    kept = np.flatnonzero(sample["keep"] & (sample["class"] != ""))
    n_rare = int((sample["class"].iloc[kept] == rare).sum())
    if not audit.enabled or n_rare < 2 or sample["class"].iloc[kept].nunique() < 2:
        return pd.DataFrame(columns=list(AUDIT_COLUMNS)), ""
    rng = np.random.default_rng(audit.seed)
    classes = sample["class"].iloc[kept].to_numpy()
    rows = _at_most(classes, audit.n_per_class, rng)
    flux, rows = _published_spectra(
        sample, stacked_spectra, sweep.base.features, np.sort(kept[rows])
    )
    classes = sample["class"].iloc[rows]
    names = [name for name in CLASSES if (classes == name).any()]
    number = classes.map(names.index).to_numpy(np.int32)
    labelled = {"true": number, "shuffled": rng.permutation(number)}
    made = _made_spectra(flux, labelled, names.index(rare), finished_fits, audit, cluster)
    shared: dict[str, np.ndarray] = {"spectra": flux, **made}
    # The kernels are compared with the true classes; for the shuffled ones the published one does.
    kernels = {"true": audit.kernel_sizes, "shuffled": audit.kernel_sizes[:1]}
    if _PUBLISHED_KERNEL in audit.kernel_sizes:
        kernels["shuffled"] = (_PUBLISHED_KERNEL,)
    tasks = {}
    for labels, sizes in kernels.items():
        for kernel in sizes:
            for repeat in range(audit.n_repeats):
                key = [audit.seed, labels == "true", kernel, repeat]
                settings = {
                    "kernel_size": kernel, "seed": int(np.random.default_rng(key).integers(2**20)),
                    "epochs": audit.epochs, "batch_size": audit.batch_size,
                    "n_classes": len(names), "rare": names.index(rare),
                    "test_share": audit.test_share, "made": f"made {labels}",
                }  # fmt: skip
                arrays = {"classes": labelled[labels]}
                task = Task(settings, arrays, ("spectra", settings["made"]))
                tasks[labels, kernel, repeat] = task
    fits = dict(
        run_each(
            tasks, published_fit_task, shared, finished_fits, cluster,
            size=round(flux.shape[1] ** 0.5), about="audit",
        )
    )  # fmt: skip
    table = pd.DataFrame(
        [(*key, *(float(fits[key][name]) for name in AUDIT_COLUMNS[3:])) for key in tasks],
        columns=list(AUDIT_COLUMNS),
    )
    whole = ["taps_used", "n_train", "n_test", "n_made_in_test", "n_real_rare_in_test"]
    table[whole] = table[whole].astype(int)
    return table, audit_in_words(table, rare, audit)


def _published_spectra(sample, spectra, features, rows):
    """Published preparation of some spectra, of those that have one, and their rows."""
    published = features.model_copy(update={"preparation": "published"})
    flux = prepare_all(sample, spectra, published)[rows].compute()
    usable = np.ptp(flux, axis=1) > 0
    return flux[usable], rows[usable]


def _at_most(classes, n, rng):
    """Rows of each class, at most so many, in random order."""
    order = rng.permutation(len(classes))
    turn = pd.Series(order).groupby(classes[order]).cumcount().to_numpy()
    return order[turn < n]


def _made_spectra(flux, labelled, rare, store, parameters, cluster):
    """Spectra of the rare class by the published generator, for each kind of labels."""
    members = {labels: np.flatnonzero(classes == rare) for labels, classes in labelled.items()}
    shown = {f"rare {labels}": flux[rows][..., None] for labels, rows in members.items()}
    trainings = {
        labels: Training(
            {
                "images": f"rare {labels}", "kind": "published_gan", "n_classes": 1,
                "size": flux.shape[1], "latent": parameters.latent, "width": 64,
                "learning_rate": 1e-4, "kl_weight": 1.0, "batch_size": 1, "rotate": False,
                "seed": parameters.seed % 2**20,
            },
            {"classes": np.zeros(len(rows), np.int32)},
            parameters.generator_epochs,
        )
        for labels, rows in members.items()
    }  # fmt: skip
    states = {}
    for labels, _, result in train_in_pieces(
        trainings, train_generator_task, shown, store, cluster,
        every=parameters.checkpoint_every, size=round(flux.shape[1] ** 0.5),
    ):  # fmt: skip
        states[labels] = unpack(result, "state")  # the last one is used, as published
    made = {}
    for labels, state in states.items():
        counts = np.bincount(labelled[labels])
        missing = max(0, int(counts.max() - counts[rare]))
        maker = maker_with(trainings[labels].settings, state)
        rng = np.random.default_rng([parameters.seed, 5])
        made[f"made {labels}"] = make_images(maker, np.zeros(missing, int), rng)[..., 0]
    return made


def published_fit_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """One fit of the published network on one random split of observed and made spectra.

    The settings name the ``made`` spectra and the number of the ``rare`` class; the array is
    ``classes`` of the observed spectra.

    Returns
    -------
    dict of numpy.ndarray
        The columns of `AUDIT_COLUMNS` after the third, NaN where there is nothing to count.
    """
    prepare_process(threads)
    real, made = shared["spectra"], shared[settings["made"]]
    # Every pixel is a channel of an input one pixel long, as published.
    inputs = np.concatenate([real, made])[:, None, :].astype(np.float32)
    classes = np.concatenate([arrays["classes"], np.full(len(made), settings["rare"], np.int32)])
    is_made = np.arange(len(inputs)) >= len(real)
    order = np.random.default_rng(settings["seed"]).permutation(len(inputs))
    # Made spectra and further ones of a star may be on either side, as published.
    test, train = np.split(order, [round(settings["test_share"] * len(order))])
    architecture = settings["n_classes"], inputs.shape[2], settings["kernel_size"]
    model = compiled(_published, architecture, "adam", False)
    fresh = _published(*architecture, settings["seed"])
    restart(model, fresh, 1e-3)
    taps = used_taps(fresh)
    scale = fresh.layers[0].get_weights()[0][taps].std()
    snapshots, _ = fit_classifier(
        model, (inputs[train], classes[train]), None, epochs=[settings["epochs"]],
        batch_size=settings["batch_size"], patience=None, min_epochs=1, seed=settings["seed"],
    )  # fmt: skip
    model.set_weights(snapshots[0].weights)
    named = predict(model, inputs[test]).argmax(axis=1)
    right = named == classes[test]
    rare, real_test = classes[test] == settings["rare"], ~is_made[test]

    def share(chosen):
        return float(right[chosen].mean()) if chosen.any() else np.nan

    def largest_share(labels):
        return np.bincount(labels).max() / len(labels) if len(labels) else np.nan

    values = {
        "taps_used": len(taps), "initial_scale": scale, "n_train": len(train), "n_test": len(test),
        "n_made_in_test": (~real_test).sum(), "n_real_rare_in_test": (rare & real_test).sum(),
        "chance": largest_share(classes[test]),
        "chance_of_real": largest_share(classes[test][real_test]),
        "success_rate": right.mean(), "success_rate_of_real": share(real_test),
        "rare_recall": share(rare), "rare_recall_of_real": share(rare & real_test),
        "rare_precision": share(named == settings["rare"]),
    }  # fmt: skip
    return {name: np.array(float(value)) for name, value in values.items()}


def _published(n_classes, pixels, kernel_size, seed):
    return published_star_cnn(n_classes, pixels=pixels, kernel_size=kernel_size, seed=seed)


def audit_in_words(table: pd.DataFrame, rare: str, audit: AuditParameters) -> str:
    """What the table of the audit says, and how long it was run."""
    same = table["kernel_size"] == table.loc[table["labels"] == "shuffled", "kernel_size"].iloc[0]
    mean = table[same].groupby("labels").mean(numeric_only=True)
    true, shuffled = mean.loc["true"], mean.loc["shuffled"]
    by_kernel = table[table["labels"] == "true"].groupby("kernel_size")
    kernels = ", ".join(
        f"{kernel}: {part['success_rate'].mean():.3f} ({part['success_rate'].min():.3f}-"
        f"{part['success_rate'].max():.3f})"
        for kernel, part in by_kernel
    )
    return (
        f"Audit. The published recipe gives {true.success_rate:.3f}, and "
        f"{shuffled.success_rate:.3f} where the classes of the observed spectra are shuffled "
        f"(always naming the largest class: {shuffled.chance:.3f}); "
        f"{true.n_made_in_test / true.n_test:.0%} of its test spectra are made ones. On the "
        f"observed ones alone it has {true.success_rate_of_real:.3f}, and "
        f"{shuffled.success_rate_of_real:.3f} with shuffled classes "
        f"({shuffled.chance_of_real:.3f}). "
        f"Recall of {rare}: {true.rare_recall:.3f} with made spectra in the test, "
        f"{true.rare_recall_of_real:.3f} of the observed ones; with shuffled classes "
        f"{shuffled.rare_recall:.3f} and {shuffled.rare_recall_of_real:.3f}. Its kernel size "
        "changes nothing but the initial weights of the one tap that sees the spectrum: success "
        f"rates by kernel size {kernels}. Run with {audit.epochs} epochs (published: 140), "
        f"{audit.generator_epochs} of the generator (8000), at most "
        f"{audit.n_per_class} spectra of a class (1400) and {audit.n_repeats} repeats "
        "(5)."
    )
