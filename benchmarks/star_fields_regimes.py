"""Networks beside tuned finders on made-up fields of four kinds, several seeds.

``python benchmarks/star_fields_regimes.py 2000 5 sky`` (gradient steps, seeds, S/N) writes
``benchmarks/results/star_fields_regimes_sky.csv``. S/N of the stars that must be found is above 5
against the noise of the ``sky``, or as ``measured``, where a crowd is a part of the noise. 20
fields of 256 pixels of each kind are tested, 12 others set the thresholds and the finders. The
networks see neither: they are trained on made-up tiles of all kinds together.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from skyloom.evaluation.detection import (
    best_threshold,
    completeness_at_purity,
    f1_score,
    fit_ranking,
)
from skyloom.images.stars import FINDERS, measure_fwhm
from skyloom.learning.fitting import prepare_process
from skyloom.pipelines.star_fields import augmentation, features, fitting, parameters, training

KINDS = {
    "sparse": {"density_range": (0.5, 2.0), "photographic_share": 0.0, "artefact_share": 0.0,
               "nebulosity_share": 0.0, "cluster_share": 0.0, "galaxy_density": 0.05},
    "crowded": {"density_range": (5.0, 12.0), "photographic_share": 0.0, "artefact_share": 0.0,
                "nebulosity_share": 0.0, "galaxy_density": 0.05},
    "artefacts": {"density_range": (0.7, 2.0), "photographic_share": 0.0, "artefact_share": 1.0,
                  "galaxy_density": 0.5},
    "photographic": {"density_range": (0.7, 2.5), "photographic_share": 1.0,
                     "artefact_share": 1.0},
}  # fmt: skip
RADIUS = 2.0  # pixels, within which a detection is a star
SIZE, N_TUNED, N_TESTED, N_TRAINED, N_TRIALS, N_BOOTSTRAPS = 256, 12, 20, 400, 48, 1000
COLUMNS = ["x", "y", "snr", "magnitude"]


def draw(kind: str, n: int, seed: int):
    """Fields of a kind with their stars, and what the filter says of them."""
    ingestion = parameters.IngestionParameters(tile=SIZE)
    seeds = parameters.AugmentationParameters(simulated_seed=seed)
    drawn = parameters.FieldParameters(**KINDS[kind]).model_dump()
    true = sys.argv[3] == "sky"
    pixels, stars = augmentation.made_up_tiles(n, seeds, ingestion, drawn, true_snr=true)
    ids = [f"{kind} {k}" for k in range(len(pixels))]
    sample = pd.DataFrame({"id": ids, "field": ids})
    widths = [measure_fwhm(tile) for tile in pixels]
    fields = pd.DataFrame({"id": ids, "fwhm": widths})
    return ids, pixels, stars, features.filter_tiles(sample, fields, pixels)


def tables_of(measure, model, drawn, settings):
    """Detections of a network in fields, matched."""
    ids, pixels, stars, filtered = drawn
    found = []
    for name, tile, known, snr in zip(ids, pixels, stars, filtered, strict=True):
        image = features.prepare_images(tile[None], settings)
        p = model.predict_on_batch(image)[0, ..., 0]
        table = measure.table([known], [np.stack([p, snr.astype(np.float32)], axis=-1)])
        found.append(table.assign(id=name))
    return pd.concat(found, ignore_index=True)


def counts(table, threshold):
    """Stars, detections and right ones of each field."""
    named = (table["score"] >= threshold) & (table["score"] > 0)
    parts = table.assign(named=named, right=named & table["star"].astype(bool))
    return parts.groupby("id", sort=False)[["star", "named", "right"]].sum().astype(float)


def f1_of(sums):
    return 2 * sums["right"] / (sums["star"] + sums["named"])


def main() -> None:
    n_steps, n_seeds = map(int, sys.argv[1:3])
    prepare_process(1)
    ingestion = parameters.IngestionParameters(tile=SIZE)
    measure = fitting.measure_of(ingestion)
    tuned = {kind: draw(kind, N_TUNED, 101) for kind in KINDS}
    tested = {kind: draw(kind, N_TESTED, 202) for kind in KINDS}

    finders = {}
    for kind in KINDS:
        for finder in FINDERS:
            rng = np.random.default_rng(0)
            best = training.tune_finder(
                finder, tuned[kind][1], tuned[kind][2], ingestion, rng, N_TRIALS
            )
            table = {
                role: pd.concat(
                    [
                        training.find_and_match(
                            finder, best["settings"], tile, known, ingestion
                        ).assign(id=name)
                        for name, tile, known, _ in zip(*drawn[kind], strict=True)
                    ],
                    ignore_index=True,
                )
                for role, drawn in (("tuned", tuned), ("tested", tested))
            }
            threshold = best_threshold(table["tuned"])
            finders[kind, finder] = (
                counts(table["tested"], threshold), completeness_at_purity(table["tested"]),
            )  # fmt: skip
        print(kind, {f: round(f1_of(finders[kind, f][0].sum()), 3) for f in FINDERS}, flush=True)

    small = parameters.IngestionParameters()
    drawn = parameters.FieldParameters().model_dump()
    seeds = parameters.AugmentationParameters(simulated_seed=303)
    true = sys.argv[3] == "sky"
    pixels, stars = augmentation.made_up_tiles(N_TRAINED, seeds, small, drawn, true_snr=true)
    features_of = parameters.FeatureParameters()
    inputs = features.prepare_images(pixels, features_of)
    targets = np.stack(
        [features.draw_targets(s, small.tile, features_of, limit=5, doubtful=2) for s in stars]
    )
    cut = int(0.85 * len(pixels))
    base = parameters.Configuration(
        name="base", features=features_of, augmentation=parameters.AugmentationParameters(),
        network=parameters.NetworkParameters(),
        training=parameters.TrainingParameters(
            epochs=max(1, n_steps // 50), steps_per_epoch=50, learning_rate=3e-3, halve_after=4
        ),
    )  # fmt: skip
    rows, networks = [], {}
    for seed in range(n_seeds):
        settings = fitting.fit_settings([base], 0, seed)
        model, snapshots, history = fitting.fit_network(
            settings, {}, (inputs[:cut], targets[:cut]), (inputs[cut:], targets[cut:])
        )
        model.set_weights(snapshots[-1].weights)
        thresholds = pd.concat(
            [tables_of(measure, model, tuned[kind], features_of) for kind in KINDS]
        )
        ranking = fit_ranking(thresholds)
        print(seed, ranking, history["val_loss"].min(), flush=True)
        for kind in KINDS:
            table = tables_of(measure, model, tested[kind], features_of)
            table["score"] = ranking.probability(table["score"], table["filtered"])
            bright = table[table["star"].astype(bool) & (table["snr"] > 200)]
            networks.setdefault(kind, []).append(counts(table, ranking.threshold))
            rows.append(
                {
                    "kind": kind, "seed": seed,
                    "f1": f1_score(table, np.nextafter(ranking.threshold, -1)),
                    "completeness_at_90": completeness_at_purity(table),
                    "bright_found": (bright["score"] >= ranking.threshold).mean(),
                }
            )  # fmt: skip
        print(pd.DataFrame(rows[-len(KINDS) :]).round(3).to_string(), flush=True)
        write(pd.DataFrame(rows), networks, finders)


def write(rows, networks, finders):
    """The table, with intervals over fields of the mean over seeds less the best finder."""
    rng = np.random.default_rng(0)
    result = []
    for kind, tables in networks.items():
        best = max(FINDERS, key=lambda finder: f1_of(finders[kind, finder][0].sum()))
        ours = sum(tables) / len(tables)
        theirs = finders[kind, best][0].reindex(ours.index)
        draws = rng.integers(0, len(ours), (N_BOOTSTRAPS, len(ours)))
        apart = [f1_of(ours.iloc[rows].sum()) - f1_of(theirs.iloc[rows].sum()) for rows in draws]
        own = rows[rows["kind"] == kind]
        # F1 of as many detections as stars, thrown at random within the same radius.
        hit = 1 - np.exp(-ours["star"] * np.pi * RADIUS**2 / SIZE**2)
        chance = (ours["star"] * hit).sum() / ours["star"].sum()
        difference = f1_of(ours.sum()) - f1_of(theirs.sum())
        result.append(
            {
                "kind": kind, "fields": len(ours), "seeds": len(tables), "chance": chance,
                "f1": own["f1"].mean(),
                "f1_lowest_seed": own["f1"].min(), "f1_highest_seed": own["f1"].max(),
                "completeness_at_90": own["completeness_at_90"].mean(),
                "bright_found": own["bright_found"].mean(), "best_finder": best,
                "finder_f1": f1_of(theirs.sum()),
                "finder_completeness_at_90": finders[kind, best][1],
                "minus_finder": difference, "low": np.percentile(apart, 2.5),
                "high": np.percentile(apart, 97.5),
            }
        )  # fmt: skip
    path = Path(__file__).parent / f"results/star_fields_regimes_{sys.argv[3]}.csv"
    pd.DataFrame(result).round(4).to_csv(path, index=False)


if __name__ == "__main__":
    main()
