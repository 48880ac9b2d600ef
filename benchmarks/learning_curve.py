"""Balanced accuracy against the number of labelled profiles, for every way of training.

    python benchmarks/learning_curve.py [--sizes 100 318 ...] [--class-by channel_asymmetry]

Every arm sees the same labelled profiles and is tested on the same 2,000 others. The published
network sees image model 2, as published; all arms from the third on see models 1 and 2.
Differences to the logistic regression are paired: over test profiles, after the mean over seeds.
Writes ``benchmarks/results/learning_curve_<class>.csv`` and a figure beside it; what is there of
fits in ``--store`` is not fitted again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from skyloom.compute import ClusterParameters
from skyloom.evaluation.baselines import logistic_regression
from skyloom.learning.fitting import unpack
from skyloom.learning.tasks import ResultStore, Task, run_each
from skyloom.pipelines.hi_profiles.augmentation import (
    draw_augmented_images,
    plan_copies,
    simulate_pretraining_sample,
)
from skyloom.pipelines.hi_profiles.features import baseline_features, draw_images
from skyloom.pipelines.hi_profiles.fitting import fit_settings, fit_task, pretrain_task
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    NetworkParameters,
    PretrainingParameters,
    SimulationParameters,
    Sweep,
    SweepParameters,
    TrainingParameters,
)
from skyloom.pipelines.hi_profiles.training import INPUTS, pretraining_of
from skyloom.plots.style import CYCLE, GREY, new_figure
from skyloom.simulate.hi_profiles import assign_classes, draw_truth, observe_lines
from skyloom.spectra.hi.asymmetry import asymmetry_table
from skyloom.spectra.hi.lines import fit_profiles

BOTH, FOLD = {"network.image_models": [1, 2]}, {"network.image_models": [2]}
ARMS = {
    "published network": {**FOLD, "augmentation.n_copies": 0},
    "published network, augmented": FOLD,
    "published network, augmented, images 1 and 2": BOTH,
    "published network, pre-trained": {**BOTH, "training.start": "fine_tuned"},
    "1-D network, augmented": {**BOTH, "network.architecture": "folded_cnn"},
    "1-D network, pre-trained": {
        **BOTH, "network.architecture": "folded_cnn", "training.start": "fine_tuned",
    },
}  # fmt: skip
BASELINE = "indices, logistic regression"
N_POOL, N_TEST = 10500, 2000  # a few profiles have no usable fit


def sample(n, seed, class_by):
    """Profiles, fluxes, fits, asymmetries and classes of a simulated sample."""
    rng = np.random.default_rng([seed, 7])
    truth = draw_truth(n, rng)
    start, flux = observe_lines(truth, 256, rng)
    profiles = truth[["id", "snr", "channel_width", "noise"]].assign(velocity_start=start)
    fits, asymmetries = [], []
    for table, (*observed, baseline, window) in fit_profiles(profiles, flux):
        fits.append(table)
        asymmetries.append(asymmetry_table(*observed, rng, baseline, window, n_realisations=16))
    fits, asymmetry = (pd.concat(parts, ignore_index=True) for parts in (fits, asymmetries))
    label = assign_classes(truth, by=class_by, shares=(0.5, 0.3, 0.2)).to_numpy()
    classes = pd.DataFrame({"used": fits["usable"], "class": label})
    return profiles, flux, fits, asymmetry, classes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 318, 1000, 3162, 10000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 3, 3, 2, 2], help="by size")
    parser.add_argument("--class-by", default="channel_asymmetry")
    parser.add_argument("--n-pretraining", type=int, default=12000)
    parser.add_argument("--store", default="data/06_models/hi_profiles/learning_curve")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()

    base = Configuration(
        name="base",
        features=FeatureParameters(size=16),
        augmentation=AugmentationParameters(n_copies=2),
        network=NetworkParameters(),
        training=TrainingParameters(),
    )
    arms = {name: base.changed(name, values) for name, values in ARMS.items()}
    starts = {"training.start": ["scratch", "fine_tuned"], "network.image_models": [[1, 2]]}
    starts["network.architecture"] = ["ring_cnn", "folded_cnn"]
    sweep = Sweep.lay_out(SweepParameters(grid=starts), base)

    n_seeds = dict(zip(options.sizes, options.seeds, strict=True))
    profiles, flux, fits, asymmetry, classes = sample(N_POOL + N_TEST, 0, options.class_by)
    label = classes["class"].to_numpy(np.int32)
    rows = np.flatnonzero(classes["used"])
    test, pool = rows[-N_TEST:], rows[:-N_TEST]
    trainable = classes.assign(used=np.isin(classes.index, pool))
    copies = plan_copies(profiles, asymmetry, trainable, sweep)
    augmented = draw_augmented_images(profiles, flux, fits, copies, sweep)
    ((variant, images),) = draw_images(profiles, flux, fits, sweep).items()
    shared = {f"images {variant}": images.compute()}
    shared[f"copies {next(iter(augmented))}"] = {
        "images": next(iter(augmented.values())).compute(),
        "profile": copies["profile"].to_numpy(int),
    }
    pretraining = PretrainingParameters(n_profiles=options.n_pretraining)
    simulated, targets = simulate_pretraining_sample(pretraining, SimulationParameters(), sweep)
    store = ResultStore(options.store)

    def split(size, seed):
        chosen = np.random.default_rng([size, seed]).permutation(pool)[:size]
        return chosen[size // 5 :], chosen[: size // 5]

    def task(name, size, seed):
        train, validation = split(size, seed)
        # Large samples give as many gradient steps in fewer epochs.
        epochs, settled = (25, 10) if size < 3000 else (8, 4) if size < 9000 else (4, 2)
        values = {"training.epochs": epochs, "training.min_epochs": settled}
        settings = fit_settings([arms[name].changed(name, values)], 0, seed, n_classes=3)
        arrays = {"train": train, "validation": validation, "test": test}
        for role in ("train", "validation"):
            arrays[f"{role}_targets"] = label[arrays[role]]
        used = [settings[key] for key in INPUTS]
        return Task(settings, arrays, tuple(key for key in used if key))

    cluster = ClusterParameters(n_workers=options.workers)
    for name, result in run_each(
        {
            name: pretraining_of(member, pretraining, targets)
            for name, member in sweep.pretrained.items()
        },
        pretrain_task, simulated, store, cluster, size=16, about="pre-training", unit="network",
    ):  # fmt: skip
        shared[f"pretrained {name}"] = unpack(result, "weight")
    tasks = {
        (name, size, seed): task(name, size, seed)
        for size in options.sizes
        for seed in range(n_seeds[size])
        for name in arms
    }
    hits = {}
    for key, result in run_each(
        tasks, fit_task, shared, store, cluster, size=16, about="learning curve"
    ):
        hits[key] = result["test_prediction"][0].argmax(axis=1) == label[test]
        print(*key, round(hits[key].mean(), 3), flush=True)

    indices = baseline_features(profiles, fits, asymmetry)
    features = indices.to_numpy()
    for size in options.sizes:
        for seed in range(n_seeds[size]):
            train = np.concatenate(split(size, seed))  # it needs no stopping
            model = logistic_regression(balanced=True).fit(features[train], label[train])
            hits[BASELINE, size, seed] = model.predict(features[test]) == label[test]

    weight = 1 / np.bincount(label[test])[label[test]] / 3  # balanced accuracy is a weighted mean
    rng = np.random.default_rng(0)
    picks = rng.integers(0, N_TEST, (2000, N_TEST))
    table = []
    for size in options.sizes:
        mean = {
            name: np.mean([hits[name, size, seed] for seed in range(n_seeds[size])], axis=0)
            * weight
            for name in [*arms, BASELINE]
        }
        for name, score in mean.items():
            resampled = score[picks].sum(axis=1)
            difference = score - mean[BASELINE]
            low, high = np.percentile(difference[picks].sum(axis=1), [2.5, 97.5])
            table.append(
                {
                    "arm": name, "n_labelled": size, "n_seeds": n_seeds[size],
                    "balanced_accuracy": score.sum(),
                    "low": np.percentile(resampled, 2.5), "high": np.percentile(resampled, 97.5),
                    "minus_baseline": difference.sum(),
                    "minus_baseline_low": low, "minus_baseline_high": high,
                }
            )  # fmt: skip
    table = pd.DataFrame(table)
    results = Path("benchmarks/results")
    results.mkdir(exist_ok=True)
    table.round(4).to_csv(results / f"learning_curve_{options.class_by}.csv", index=False)
    print(table.round(3).to_string())
    draw(table, options.class_by).savefig(results / f"learning_curve_{options.class_by}.png")


def draw(table, class_by):
    """Balanced accuracy against the number of labelled profiles."""
    figure = new_figure(7.5, 4.8)
    axis = figure.subplots()
    styles = zip([*ARMS, BASELINE], [*CYCLE, GREY], "ovDs^<*", strict=True)
    for k, (name, colour, marker) in enumerate(styles):
        part = table[table["arm"] == name]
        shift = 1 + 0.02 * (k - 3)
        errors = np.abs(part[["low", "high"]].to_numpy().T - part["balanced_accuracy"].to_numpy())
        style = "--" if name == BASELINE else "-"
        axis.errorbar(
            part["n_labelled"] * shift, part["balanced_accuracy"], errors, color=colour,
            marker=marker, ls=style, lw=1.5, ms=6, capsize=2, label=name,
        )  # fmt: skip
    axis.axhline(1 / 3, color="black", ls=":", lw=1, label="chance")
    axis.set_xscale("log")
    axis.set(
        xlabel="labelled profiles", ylabel=f"balanced accuracy on {N_TEST} others, 95 % interval"
    )
    axis.set_title(f"three classes by the noiseless {class_by.replace('_', ' ')}", fontsize=9)
    axis.legend(fontsize=7, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
