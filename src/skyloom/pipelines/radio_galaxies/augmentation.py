"""Node functions of the augmentation: the split, then what is trained on beside the sample."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skyloom.compute import ClusterParameters
from skyloom.evaluation.splits import MANIFEST_COLUMNS, check_no_leak
from skyloom.images.cutouts import resize, stretch
from skyloom.learning.generative import (
    KINDS,
    Training,
    choose_checkpoints,
    make_images,
    maker_with,
    train_in_pieces,
)
from skyloom.learning.splitting import (
    FEWEST_OF_A_CLASS,
    split_by_origin,
    split_once,
    training_ids,
)
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.radio_galaxies.features import class_names, prepare_images
from skyloom.pipelines.radio_galaxies.fitting import train_generator_task
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    FeatureParameters,
    GeneratorParameters,
    IngestionParameters,
    Sweep,
    SyntheticParameters,
)
from skyloom.simulate.radio_galaxies import (
    CLASSES,
    PIXEL_SCALE,
    draw_truth,
    fit_distributions,
    observe,
)

logger = logging.getLogger(__name__)

HISTORY_COLUMNS = (
    "kind", "fold", "class", "epoch", "loss_1", "loss_2", "histogram_error", "diversity",
    "verdict", "chosen",
)  # fmt: skip
_N_SHOWN = 8  # images of a class on a sheet
# A checkpoint beyond these is of no use: diversity in units of that of the training images, error
# of the histograms (0 to 2), and the typical brightest pixel (0 to 1). Noise has an error of 1.2.
LEAST_DIVERSE, MOST_UNLIKE, _DARKEST = 0.2, 1.0, 0.2
_FEWEST_FITTED = 10  # sources to which distributions can be fitted
SYNTHETIC_COLUMNS = ("pool", "kind", "fold", "variant", "row", "class", "bending_angle")


def make_split(
    sample: pd.DataFrame, sweep: Sweep, augmentation: AugmentationParameters
) -> pd.DataFrame:
    """Split the sources once, before anything is augmented, synthesised or trained.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.evaluation.splits.split_manifest`, one inner fold of each outer one; the
        split is the same for every seed. Empty where classes have too few sources. Where it is by
        catalogue, sources of classes that cannot be trained on are left out.

    Raises
    ------
    ValueError
        If the split is to be the given one and sources have no role, or a role has no sources; if
        a catalogue that is to be tested is not there, or none is left to train on.
    """
    used = sample[sample["keep"] & (sample["class"] != "")]
    tested = sweep.parameters.test_catalogues
    if tested:
        used, role = split_by_origin(used, "catalogue", tested, sweep.parameters.train_catalogues)
        used = used.assign(role=role)
        # There is no other split of it: that given by the catalogues.
        augmentation = augmentation.model_copy(update={"split": "given"})
        used = _that_can_be_learnt(used)
    objects = used[["id", "group", "sha256", "role"]].assign(
        **{"class": used["class"].map(CLASSES.index).astype(int)}
    )
    for label, count in objects.groupby("class")["group"].nunique().items():
        if count < FEWEST_OF_A_CLASS:
            logger.warning(
                "class %s has %d sources, %d are needed: nothing is trained; leave it out of "
                "ingestion.class_values, or label more", CLASSES[label], count, FEWEST_OF_A_CLASS,
            )  # fmt: skip
    present = sorted(objects["class"].unique())
    if len(present) == 1:
        logger.warning("all sources are of the class %s: nothing to classify", CLASSES[present[0]])
    objects["class"] = objects["class"].map({label: k for k, label in enumerate(present)})
    return split_once(objects, augmentation)


def _that_can_be_learnt(used):
    """Sources of the classes that the catalogues to train on have enough of."""
    learnt = used[used["role"] == "train"].groupby("class")["group"].nunique()
    counts = learnt.reindex(sorted(set(used["class"])), fill_value=0)
    few = counts[counts < FEWEST_OF_A_CLASS]
    for name, count in few.items():
        logger.warning(
            "class %s has %d sources to train on, %d are needed: it is left out, %d sources of it",
            name, count, FEWEST_OF_A_CLASS, (used["class"] == name).sum(),
        )  # fmt: skip
    return used[~used["class"].isin(few.index)]


def make_angle_split(
    sample: pd.DataFrame, split_manifest: pd.DataFrame, augmentation: AugmentationParameters
) -> pd.DataFrame:
    """Add sources whose bending angle is known to the split, where that has not all of them.

    Returns
    -------
    pandas.DataFrame
        The split of the classes, and of sources with an angle that have no class. These have the
        role that is given to them where it is, and else parts in which angles are alike: every so
        many of them in ascending order. Their ``class`` is -1.
    """
    known = sample[sample["keep"] & sample["bending_angle"].notna()]
    extra = known[~known["id"].isin(split_manifest["id"])].sort_values(
        "bending_angle", kind="stable"
    )
    if extra.empty:
        return split_manifest
    n_test, n_validation = augmentation.n_parts
    folds = [0] if split_manifest.empty else sorted(split_manifest["fold"].unique())
    if split_manifest.empty and augmentation.split == "folds":
        folds = list(range(n_test))
    group, _ = pd.factorize(extra["group"])  # in ascending order of the angle
    rng = np.random.default_rng(augmentation.split_seed)
    test, validation = rng.integers(n_test), rng.integers(n_validation)
    given = extra["role"].to_numpy() if augmentation.split in ("given", "auto") else ""
    parts = []
    for number, fold in enumerate(folds):
        tested = group % n_test == (test + number) % n_test
        rest = np.cumsum(~tested)
        role = np.where(rest % n_validation == validation, "validation", "train")
        role = np.where(tested, "test", role)
        role = pd.Series(np.where(given == "", role, given), index=extra.index)
        # Entries of one source stay together, also with those of the classes.
        of_group = role.groupby(extra["group"]).first().to_dict()
        beside = split_manifest[split_manifest["fold"] == fold]
        of_group |= dict(zip(beside["group"], beside["role"], strict=True))
        parts.append(
            extra[["id", "group", "sha256"]].assign(
                fold=fold, inner=0, role=extra["group"].map(of_group), **{"class": -1}
            )
        )
    once = pd.concat(parts, ignore_index=True)
    added = [once.assign(seed=seed) for seed in augmentation.seeds]
    whole = pd.concat([split_manifest, *added] if len(split_manifest) else added, ignore_index=True)
    whole = whole[list(MANIFEST_COLUMNS)]
    for fold, part in whole.groupby("fold"):
        missing = {"train", "validation", "test"} - set(part["role"])
        if missing:
            logger.warning(
                "bending angles, fold %d: no source is in the part %s of the split",
                fold, " or ".join(sorted(missing)),
            )  # fmt: skip
    check_no_leak(whole, all_tested=False)
    return whole


def simulate_sources(
    sample: pd.DataFrame,
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    angle_split_manifest: pd.DataFrame,
    sweep: Sweep,
    synthetic: SyntheticParameters,
    features: FeatureParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Geometric simulations like the training part of each fold.

    Returns
    -------
    sources : pandas.DataFrame
        Every parameter of every simulated source, with ``fold``; and of how many training sources
        its distributions are (``n_fitted``).
    cutouts : dict of str to numpy.ndarray
        As observed, by fold; none where no configuration is trained on them.
    """
    used = angle_split_manifest if sweep.parameters.bending else split_manifest
    if used.empty or not (sweep.parameters.bending or "geometric" in sweep.synthetic):
        return pd.DataFrame(columns=["id", "fold", "class"]), {}
    tables, cutouts = [], {}
    scales = sample["pixel_scale"].dropna()
    scale = float(scales.median()) if len(scales) else PIXEL_SCALE
    # A regressor of angles has to see all of them, whatever is to be classified.
    names = list(CLASSES) if sweep.parameters.bending else class_names(sample, split_manifest)
    class_of = sample.set_index("id")["class"]
    for fold in sorted(used["fold"].unique()):
        rng = np.random.default_rng([synthetic.seed, int(fold)])
        classes = class_of.loc[training_ids(used, fold)["id"]]
        extended = classes.index[classes != "compact"]
        measured = measurements[measurements["id"].isin(extended)]
        fixed = synthetic.sources.model_dump() | {"field": ingestion.size * scale}
        fixed["class_shares"] = [
            share if name in names else 0.0
            for name, share in zip(CLASSES, fixed["class_shares"], strict=True)
        ]
        drawn, n_fitted = fixed, 0
        whole = measured.drop(columns="id").dropna(axis=1, how="all").dropna()
        if synthetic.fit and len(whole) >= _FEWEST_FITTED:
            size = min(features.crop, ingestion.size)  # as the sources were measured
            # Mixed as the measured ones are; what is drawn is mixed as the parameters say.
            counts = [float((classes == name).sum()) for name in CLASSES]
            mixed = fixed | ({"class_shares": counts} if any(counts) else {})
            drawn = fixed | fit_distributions(measured, rng, size=size, pixel_scale=scale, **mixed)
            n_fitted = len(whole)
        truth = draw_truth(synthetic.n_images, rng, **drawn)
        cutouts[f"fold_{fold}"] = observe(
            truth, rng, size=ingestion.size, pixel_scale=scale, beam_fwhm=fixed["beam_fwhm"]
        )
        tables.append(truth.assign(fold=fold, n_fitted=n_fitted))
    return pd.concat(tables, ignore_index=True), cutouts


def train_generators(
    sample: pd.DataFrame,
    cutouts: np.ndarray,
    split_manifest: pd.DataFrame,
    sweep: Sweep,
    finished_fits: ResultStore,
    generators: GeneratorParameters,
    cluster: ClusterParameters,
) -> tuple[dict[str, Callable[[], Any]], pd.DataFrame, dict[str, list[np.ndarray]], dict[str, Any]]:
    """Train the networks that make images, on the training part of each fold only.

    Returns
    -------
    generators : dict of str to callable
        Function that returns the network, by `generator_name`.
    history : pandas.DataFrame
        `HISTORY_COLUMNS`, one row an epoch; what is measured of a checkpoint stands in its last.
    films : dict of str to list of numpy.ndarray
        The same latent numbers as a mosaic of images after every checkpoint.
    sheets : dict of str to matplotlib.figure.Figure
        Samples of each class beside training images.
    """
    from skyloom.plots.radio_galaxies import film_frame

    kinds = [kind for kind in KINDS if kind in sweep.synthetic]
    if not kinds or split_manifest.empty:
        return {}, pd.DataFrame(columns=list(HISTORY_COLUMNS)), {}, {}
    names = class_names(sample, split_manifest)
    jobs = {
        generator_name(kind, fold, job_names): _Job(kind, fold, job_names, rows)
        for kind in kinds
        for fold in sorted(split_manifest["fold"].unique())
        for job_names, rows in _shown_to(training_ids(split_manifest, fold), names, generators)
    }
    features = sweep.base.features.model_copy(update={"size": generators.size})
    images = prepare_images(cutouts, features)
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    # They are shown the images of their training part, and no others.
    shown = {job.shown: images[row_of.loc[job.objects["id"]]] for job in jobs.values()}
    trainings = {name: _training(job, generators) for name, job in jobs.items()}
    chosen, history, frames = choose_checkpoints(
        train_in_pieces(
            trainings, train_generator_task, shown, finished_fits, cluster,
            every=generators.checkpoint_every, size=generators.size,
        ),
        measured=("histogram_error", "diversity"),
        verdict=_verdict,
    )  # fmt: skip
    for column, value_of in (
        ("kind", lambda job: job.kind),
        ("fold", lambda job: job.fold),
        ("class", lambda job: "all" if len(job.names) > 1 else job.names[0]),
    ):
        history[column] = history["name"].map({name: value_of(job) for name, job in jobs.items()})
    networks = {
        name: partial(maker_with, trainings[name].settings, checkpoint.state)
        for name, checkpoint in chosen.items()
    }
    sheets = {
        name: _sheet(make(), shown[jobs[name].shown], jobs[name], generators)
        for name, make in networks.items()
    }
    films = {
        name: [film_frame(frame, f"{name}, epoch {last}") for last, frame in pieces]
        for name, pieces in frames.items()
    }
    return networks, history[list(HISTORY_COLUMNS)], films, sheets


class _Job(NamedTuple):
    """A network that makes images: of which classes, and what it is shown."""

    kind: str
    fold: int
    names: list[str]
    objects: pd.DataFrame

    @property
    def shown(self):
        return f"fold {self.fold}, {', '.join(self.names)}"


def generator_name(kind: str, fold: int, names: list[str]) -> str:
    """Name of a network that makes images of a kind (DCGAN or VAE) and some classes.

    With the name of the class where it makes one only.
    """
    return f"{kind}_fold_{fold}" + (f"_{names[0]}" if len(names) == 1 else "")


def _shown_to(objects, names, parameters):
    """Classes and training objects of each network of a fold."""
    if parameters.conditional:
        return [(names, objects)]
    parts = [objects[objects["class"] == number] for number in range(len(names))]
    return [([name], part.assign(**{"class": 0})) for name, part in zip(names, parts, strict=True)]


def _training(job, parameters):
    # Not how long it will be trained: a longer training goes on from a shorter one.
    whole = {"epochs", "checkpoint_every", "learning_rates", "conditional"}
    settings = {
        "kind": job.kind,
        "images": job.shown,
        "n_classes": len(job.names),
        "learning_rate": parameters.learning_rates[job.kind],
        **parameters.model_dump(exclude=whole),
    }
    classes = {"classes": job.objects["class"].to_numpy(np.int32)}
    return Training(settings, classes, parameters.epochs[job.kind])


def _sheet(maker, real, job, parameters):
    """Made images of each class beside training images."""
    from skyloom.plots.radio_galaxies import sample_sheet

    rng = np.random.default_rng([parameters.seed, 4])
    labels = np.repeat(np.arange(len(job.names)), _N_SHOWN)
    made = make_images(maker, labels, rng)[..., 0].reshape(
        len(job.names), _N_SHOWN, *real.shape[1:3]
    )
    beside = [
        real[rng.permutation(np.flatnonzero(job.objects["class"] == k))[:_N_SHOWN], :, :, 0]
        for k in range(len(job.names))
    ]
    return sample_sheet(made, beside, job.names)


def _verdict(result) -> str:
    """What is wrong with a checkpoint, or nothing."""
    if not np.isfinite(result["history"]).all():
        return "diverged"
    if float(result["brightness"]) < _DARKEST:
        return "makes dark images"
    if not float(result["diversity"]) > LEAST_DIVERSE:
        return "collapsed: its images are all alike"
    if float(result["histogram_error"]) > MOST_UNLIKE:
        return "makes no sources: its images are unlike those of the training"
    return ""


def draw_synthetic_images(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    synthetic_sources: pd.DataFrame,
    synthetic_cutouts: dict[str, Callable[[], np.ndarray]],
    generators: dict[str, Callable[[], Any]],
    sweep: Sweep,
    synthetic: SyntheticParameters,
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Synthetic images of every kind, fold and variant, with what is known of each.

    Returns
    -------
    images : dict of str to numpy.ndarray
        By pool, ``<kind>_fold_<fold>_<variant>``.
    table : pandas.DataFrame
        `SYNTHETIC_COLUMNS`, one row an image: ``class`` by number, ``bending_angle`` (deg) where
        it was simulated.
    """
    names = class_names(sample, split_manifest)
    images: dict[str, np.ndarray] = {}
    tables = []

    def add(kind, fold, variant, pictures, classes, angle):
        pool = f"{kind}_fold_{fold}_{variant}"
        parts = [images[pool], pictures] if pool in images else [pictures]
        images[pool] = np.concatenate(parts)
        known = {"class": np.asarray(classes, int), "bending_angle": angle}
        about = {"pool": pool, "kind": kind, "fold": fold, "variant": variant}
        tables.append(pd.DataFrame(known).assign(**about))

    for variant, member in sweep.input_variants.items():
        for fold in sorted(synthetic_sources["fold"].unique()):
            truth = synthetic_sources[synthetic_sources["fold"] == fold]
            pictures = prepare_images(synthetic_cutouts[f"fold_{fold}"](), member.features)
            angle = truth["bending_angle"].where(truth["class"] != "compact")
            number = pd.Index(names).get_indexer(truth["class"])  # -1 where the sample has none
            add("geometric", fold, variant, pictures, number, angle)
        for name, load in generators.items():
            kind, fold, classes = _made_by(name, names)
            labels = np.repeat(list(classes), synthetic.n_images // len(names))
            # Where each class has a network of its own, their draws differ.
            rng = np.random.default_rng([synthetic.seed, fold, *classes])
            alone = len(classes) < len(names)
            made = make_images(load(), np.zeros_like(labels) if alone else labels, rng)
            # Brightness from 0 to 1, as that of observed images.
            pictures = stretch(resize(made[..., 0], member.features.size))[..., None]
            add(kind, fold, variant, pictures, labels, np.nan)
    if not tables:
        return {}, pd.DataFrame(columns=list(SYNTHETIC_COLUMNS))
    table = pd.concat(tables, ignore_index=True)
    table["row"] = table.groupby("pool").cumcount()
    return images, table[list(SYNTHETIC_COLUMNS)]


def _made_by(name, names):
    """Kind, fold and class numbers of a network, by its `generator_name`."""
    kind, _, fold, *alone = name.split("_")
    return kind, int(fold), [names.index(alone[0])] if alone else list(range(len(names)))
