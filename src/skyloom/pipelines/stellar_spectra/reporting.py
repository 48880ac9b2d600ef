"""Node functions of the reporting: the rare class, S/N, made spectra, figures, report, runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.measures import classification_of
from skyloom.evaluation.report import Panel, data_fingerprint, render_report, summary_text
from skyloom.evaluation.scores import (
    class_scores,
    confusion_tables,
    paired_difference,
    success_along,
)
from skyloom.evaluation.synthetic import compare_lines, judge_spectra
from skyloom.learning.final import rows_and_classes
from skyloom.learning.results import (
    ARM_COLUMNS,
    NESTED,
    along_axis,
    compare_arms,
    file_name,
    reference_networks,
    score_comparison,
    workbooks_of,
)
from skyloom.learning.runs import describe_children, describe_run, run_parameters
from skyloom.learning.splitting import split_in_words
from skyloom.pipelines.stellar_spectra.augmentation import (
    LEAST_DIVERSE,
    MOST_UNLIKE,
    class_names,
    rare_training_rows,
)
from skyloom.pipelines.stellar_spectra.features import as_input, lines_of, wavelengths
from skyloom.pipelines.stellar_spectra.fitting import pool_name
from skyloom.pipelines.stellar_spectra.parameters import (
    MADE_ARMS,
    Configuration,
    ReportingParameters,
    Sweep,
)
from skyloom.pipelines.stellar_spectra.training import (
    FOREST_BASELINE,
    MAJORITY_BASELINE,
    rare_scorer,
)
from skyloom.plots import classification as class_plots
from skyloom.plots import stellar_spectra as plots
from skyloom.plots.generators import generators_figure
from skyloom.spectra.optical.line_indices import LINE_INDICES
from skyloom.spectra.optical.spectral_types import CLASSES

CLASS_COLUMNS = (
    "configuration", "kind", "class", "n_objects", "n_predicted", "recall", "recall_low",
    "recall_high", "precision", "precision_low", "precision_high", "purity", "purity_low",
    "purity_high",
)  # fmt: skip
RARE_COLUMNS = (*CLASS_COLUMNS, "minus", "difference", "difference_low", "difference_high")
SNR_COLUMNS = (
    "configuration", "snr", "low", "high", "n_spectra", "success_rate", "success_rate_low",
    "success_rate_high",
)  # fmt: skip
QUALITY_COLUMNS = (
    "spectra", "fold", "n_spectra", "n_held_out", "spectrum_error", "line_error", "kernel_distance",
    "diversity", "share_of_copies",
)  # fmt: skip
LINE_COLUMNS = (
    "spectra", "line", "n_spectra", "median", "quarter", "three_quarters", "ks_distance",
)  # fmt: skip
_MEASURES = {
    "spectrum_error": ("error of mean and scatter\n(training spectra: scatter = 1)", MOST_UNLIKE),
    "diversity": ("diversity, training spectra = 1", LEAST_DIVERSE),
}
_N_SHOWN = 8  # configurations in the figures with a panel or a line for each
_FEWEST = 2  # spectra from which a distribution can be judged

logger = logging.getLogger(__name__)


def score_configurations(
    split_manifest: pd.DataFrame,
    sample: pd.DataFrame,
    network_predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    permutations: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
    reporting: ReportingParameters,
) -> tuple[pd.DataFrame, ...]:
    """Score every configuration and the baselines on the same stars.

    Returns
    -------
    success_rates, predictions, selection, arms : pandas.DataFrame
        From `skyloom.learning.results`; the scores with the intervals of each recall, and of
        recall and precision of the rare class.
    class_scores : pandas.DataFrame
        `CLASS_COLUMNS`, one row a configuration and class.
    rare_class : pandas.DataFrame
        `RARE_COLUMNS`: those of the rare class, with the paired difference of its recall to that
        of the network that differs in nothing but that nothing is done for the class. Without
        configurations that were not tested on all of its stars, as the trials of a search.
    success_by_snr : pandas.DataFrame
        `SNR_COLUMNS`: success rates in bins of S/N with equal numbers of spectra.
    """
    names = class_names(sample, split_manifest)
    used = sample[sample["id"].isin(split_manifest["id"])]
    scores, predictions, selection = score_comparison(
        network_predictions, inner_scores, permutations, baseline_predictions,
        measure=classification_of(split_manifest),
        score=rare_scorer(baseline_predictions, names, sweep, reporting.seed),
        label_source=", ".join(sorted(used["label_source"].unique())),
    )  # fmt: skip
    if scores.empty:
        nothing = (ARM_COLUMNS, CLASS_COLUMNS, RARE_COLUMNS, SNR_COLUMNS)
        return scores, predictions, selection, *(pd.DataFrame(columns=list(c)) for c in nothing)
    configurations, seed = outcome["configurations"], reporting.seed
    scores, arms = compare_arms(scores, predictions, configurations, seed)
    classes = _class_table(predictions, names, reporting.population)
    rare_name = sweep.base.augmentation.rare_class
    rare = _rare_table(classes, predictions, configurations, names, rare_name, seed)
    snr = _by_snr(predictions, sample, reporting.n_snr_bins)
    return scores, predictions, selection, arms, classes, rare, snr


def _class_table(predictions, names, shares):
    """Recall, precision and purity of each class and configuration."""
    population = dict(zip(CLASSES, shares, strict=True))
    tables = []
    for (name, kind), part in predictions.groupby(["configuration", "kind"], sort=False):
        table = class_scores(part, [population[each] for each in names])
        tables.append(table.assign(configuration=name, kind=kind, **{"class": names}))
    table = pd.concat(tables, ignore_index=True)[list(CLASS_COLUMNS)]
    if any(share for name, share in population.items() if name not in names):
        # How many of a class that nobody tested would be named otherwise is not known.
        table[["purity", "purity_low", "purity_high"]] = np.nan
    return table


def _rare_table(classes, predictions, configurations, names, rare, seed):
    """Scores of the rare class, and what its recall gains."""
    of_rare = classes[classes["class"] == rare]
    if of_rare.empty or not of_rare["n_objects"].max():
        return pd.DataFrame(columns=list(RARE_COLUMNS))
    tested = predictions[predictions["class"] == names.index(rare)]
    networks = of_rare.loc[of_rare["kind"] != "nested", "configuration"].tolist()
    minus = reference_networks(networks, configurations)
    minus[NESTED] = minus[networks[0]]  # it selects another one in each fold
    rows = []
    for _, row in of_rare.iterrows():
        other = minus[row["configuration"]]
        mine, reference = (
            tested[tested["configuration"] == name] for name in (row["configuration"], other)
        )
        # A search tries a configuration in one fold only.
        same = mine.merge(reference[["seed", "id"]], on=["seed", "id"])
        beside = reference.merge(mine[["seed", "id"]], on=["seed", "id"])
        rng = np.random.default_rng(seed)
        apart = paired_difference(same, beside, rng) if len(same) else (np.nan,) * 3
        names_of = ("difference", "difference_low", "difference_high")
        rows.append(row.to_dict() | {"minus": other} | dict(zip(names_of, apart, strict=True)))
    table = pd.DataFrame(rows)[list(RARE_COLUMNS)]
    # The trials of a search are tested in one fold each, and there are hundreds.
    whole = table["n_objects"] == table["n_objects"].max()
    return table[whole].reset_index(drop=True)


def _by_snr(predictions, sample, n_bins):
    """Success rates in bins of S/N, of the nested procedure and of the first baseline."""
    shown = predictions[predictions["configuration"].isin([NESTED, FOREST_BASELINE])]
    table = success_along(shown, sample.set_index("id")["snr"], n_bins)
    table = table.rename(columns={"value": "snr", "n_objects": "n_spectra"})[list(SNR_COLUMNS)]
    return table.sort_values(["configuration", "snr"], ignore_index=True)


def measure_synthetic_quality(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    prepared_spectra: dict[str, Callable[[], np.ndarray]],
    synthetic_spectra: dict[str, Callable[[], np.ndarray]],
    synthetic: pd.DataFrame,
    classifier: Any,
    classifier_description: dict[str, Any],
    sweep: Sweep,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How good the synthetic spectra of the rare class are.

    Returns
    -------
    quality : pandas.DataFrame
        `QUALITY_COLUMNS`, from `skyloom.evaluation.synthetic.judge_spectra`: of each fold, first
        held-out observed stars.
    lines : pandas.DataFrame
        `LINE_COLUMNS`, from `skyloom.evaluation.synthetic.compare_lines`: equivalent widths
        (Angstrom) of the first fold beside those of the observed stars of the class.
    """
    quality = [pd.DataFrame(columns=list(QUALITY_COLUMNS))]
    lines = pd.DataFrame(columns=list(LINE_COLUMNS))
    if not classifier_description["trained"] or synthetic.empty:
        return quality[0], lines
    import keras

    from skyloom.learning.fitting import predict

    features = Configuration.model_validate(classifier_description["configuration"]).features
    rare = sweep.base.augmentation.rare_class
    flux = prepared_spectra[features.prepared]()
    space = keras.Model(classifier.inputs, classifier.layers[-1].input)
    used = sample["id"].isin(split_manifest["id"])
    every = np.flatnonzero((sample["class"] == rare) & used)

    def seen(spectra):
        return predict(space, as_input(spectra, features))

    for fold, learnt in rare_training_rows(sample, split_manifest, rare).items():
        train, held = flux[learnt], flux[np.setdiff1d(every, learnt)]
        if min(len(train), len(held)) < _FEWEST:
            logger.warning("fold %d has too few %s stars to judge made ones", fold, rare)
            continue
        pools = {
            row.arm: np.asarray(synthetic_spectra[row.pool]())
            for row in synthetic.itertuples()
            if row.pool == pool_name(row.arm, fold, features.prepared)
        }
        groups = {"observed, held out": held, **pools}
        widths_of = partial(lines_of, features=features)
        quality.append(judge_spectra(train, groups, seen, widths_of).assign(fold=fold))
        if lines.empty:
            groups = {f"observed {rare}": flux[every], **pools}
            lines = compare_lines({name: widths_of(each) for name, each in groups.items()})
    return pd.concat(quality[1:] or quality)[list(QUALITY_COLUMNS)], lines


def write_workbooks(
    sample: pd.DataFrame, predictions: pd.DataFrame, measurements: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration: predictions, and their merge with labels and measurements.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        From `skyloom.learning.results.workbooks_of`.
    """
    about = sample[["id", "survey", "name", "spectral_type", "velocity", "snr", "label_source"]]
    widths = measurements[["id", *LINE_INDICES]]
    about = about.assign(class_name=sample["class"]).merge(widths, on="id")
    return workbooks_of(predictions, sample[["id", "file"]], about)


def model_info(
    sample: pd.DataFrame,
    rejected: pd.DataFrame,
    split_manifest: pd.DataFrame,
    synthetic: pd.DataFrame,
    generator_history: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
) -> dict[str, str]:
    """The model info sheet: data, split, leakage checks, selection, metrics, known limits.

    Returns
    -------
    dict of str to str
    """
    augmentation, training = sweep.base.augmentation, sweep.base.training
    kept = sample[sample["keep"]]
    used = sample[sample["id"].isin(split_manifest["id"])]
    dropped = sample.loc[~sample["keep"], "reason"].value_counts().to_dict()
    roles = split_manifest.drop_duplicates(["fold", "id", "role"])
    first = roles[roles["fold"] == roles["fold"].min()]["role"].value_counts().to_dict()
    asked = sweep.parameters
    split = split_in_words(
        augmentation, asked.test_surveys, asked.train_surveys, "the other surveys"
    )
    search = sweep.parameters.search
    extent = (
        f"{len(sweep.configurations)} configurations in a grid"
        if search is None
        else f"{search.n_trials} configurations searched in each outer fold and seed"
    )
    failed = f" {len(outcome['failed'])} failed or were pruned." if outcome["failed"] else ""
    verdicts = "; ".join(f"fold {row.fold}: {row.verdict}" for row in _useless(generator_history))
    made = ", ".join(
        f"{row.n_spectra} {row.arm}" for row in synthetic.drop_duplicates("arm").itertuples()
    )
    missing = without_pool(synthetic, split_manifest, sweep)
    if missing:
        made += f". Nothing could be made, so that the arm is like none, for: {missing}"
    rare_stars = used[used["class"] == augmentation.rare_class]
    twice = int(used["group"].duplicated().sum())
    return {
        "Data": f"{len(kept)} spectra kept of {len(sample)} read ({dropped or 'none dropped'}), "
        f"{len(rejected)} rejected; {len(used)} in the split, of {used['group'].nunique()} stars "
        f"({twice} are further ones of a star that is there already), by survey: "
        f"{used['survey'].value_counts().to_dict()}. Fingerprint {data_fingerprint(sample)[:16]}.",
        "Labels": f"{', '.join(sorted(used['label_source'].unique()))}; by class: "
        f"{used['class'].value_counts().to_dict()}; those of {augmentation.rare_class} by survey: "
        f"{rare_stars['survey'].value_counts().to_dict()}.",
        "Split": f"{split}; spectra by role in the first fold: {first}; the same for every seed "
        f"({sorted(int(seed) for seed in split_manifest['seed'].unique())}), which stands for "
        "initial weights, batches and the choice of made spectra; made before augmentation and "
        "written down.",
        "Leakage checks": "Spectra of one star, by position, name or content, are on one side of "
        f"the split. Made spectra of {augmentation.rare_class} are made from the training part of "
        "their fold only, and none is validated or tested on.",
        "Synthetic spectra": (f"In each fold: {made}. " if made else "None. ")
        + f"As many are trained on as {augmentation.rare_class} lacks to the median class."
        + (f" Warning: {verdicts}." if verdicts else ""),
        "Selection": f"{extent}.{failed} The first row selects one by the balanced accuracy of the "
        "validation stars. The other rows select nothing but the epoch; taking the best of them "
        "afterwards is optimistic.",
        "Training": f"{training.epochs} times {training.steps_per_epoch} gradient steps of "
        f"{training.batch_size} spectra for every arm, whatever it is trained on.",
        "Metrics": "Success rate over test spectra, mean over seeds, 95 % Wilson interval over "
        "spectra; recall and precision likewise. Purity is what the class named so would hold if "
        "stars were as frequent as in the survey; its interval combines the ends of several others "
        "and is wider than 95 %. Paired differences are bootstrapped over spectra. Intervals do "
        "not contain the luck of the split.",
        "Known limits": "Classes are those of the tables and headers, which disagree in some per "
        "cent of cases; stars at the border of two classes count as wrong when they are named the "
        "other. Classes and surveys are not independent: a network may tell a survey by its sky, "
        "and with it a class. S/N is known only where the survey tells it. In a population with "
        "other objects (hot subdwarfs, white dwarfs, quasars) purity is lower.",
    }


def _useless(generators):
    """Checkpoints that are used although something is wrong with them."""
    return generators[
        generators["chosen"].astype(bool) & (generators["verdict"] != "")
    ].itertuples()


def without_pool(synthetic: pd.DataFrame, manifest: pd.DataFrame, sweep: Sweep) -> str:
    """Arms and folds for which there is nothing to train on beside the observed stars."""
    wanted = MADE_ARMS & set(sweep.arms)
    there = set(zip(synthetic["arm"], synthetic["fold"].astype(int), strict=True))
    folds = sorted(int(fold) for fold in manifest["fold"].unique())
    missing = [(arm, fold) for arm in sorted(wanted) for fold in folds if (arm, fold) not in there]
    return ", ".join(f"{arm} (fold {fold})" for arm, fold in missing)


def unused_spectra(sample: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Ids of what was read and is not in the split, with the reason."""
    dropped = sample[~sample["keep"]]
    left = sample[sample["keep"] & ~sample["id"].isin(manifest["id"])]
    why = "class " + left["class"] + ", survey " + left["survey"] + ": left out of the split "
    why += "(too few stars of the class to train on, a survey that is not asked for, or a star "
    why += "that is tested)"
    reasons = pd.concat([dropped["reason"] + ": " + dropped["value"].astype(str), why])
    return pd.DataFrame({"id": sample["id"], "reason": reasons}).loc[reasons.index]


def write_report(
    sample: pd.DataFrame,
    rejected: pd.DataFrame,
    prepared_spectra: dict[str, Callable[[], np.ndarray]],
    split_manifest: pd.DataFrame,
    success_rates: pd.DataFrame,
    arms: pd.DataFrame,
    class_scores: pd.DataFrame,
    rare_class: pd.DataFrame,
    success_by_snr: pd.DataFrame,
    predictions: pd.DataFrame,
    learning_curves: pd.DataFrame,
    selection: pd.DataFrame,
    occlusion: pd.DataFrame,
    generator_history: pd.DataFrame,
    synthetic: pd.DataFrame,
    synthetic_quality: pd.DataFrame,
    synthetic_lines: pd.DataFrame,
    audit: pd.DataFrame,
    audit_sentences: str,
    sweep: Sweep,
    outcome: dict[str, Any],
    model_info: dict[str, str],
) -> dict[str, Any]:
    """Draw the figures and write the self-contained report and the table for the terminal.

    Returns
    -------
    dict
        Figures by name; ``report``, HTML with everything embedded; ``summary``, the result table
        as text.
    """
    names, rare = class_names(sample, split_manifest), sweep.base.augmentation.rare_class
    measure = classification_of(split_manifest)
    networks = success_rates.loc[success_rates["kind"] == "network", "configuration"]
    shown = networks.tolist()[:_N_SHOWN]
    hidden = (MAJORITY_BASELINE, NESTED)
    by_named = confusion_tables(predictions, len(names), shown=shown, hidden=hidden, by="predicted")
    along, axis = along_axis(arms, sweep, outcome["configurations"])
    panels = class_plots.class_panels(
        success_rates, arms, predictions, learning_curves, names,
        objects="spectra", shown=shown, hidden=hidden,
    )  # fmt: skip
    panels |= {
        "axis_figure": Panel(
            "Along the axis of the sweep", class_plots.axis_figure(along, axis), not along.empty
        ),
        "confusion_by_prediction_figure": Panel(
            "Confusion matrices, normalised by predicted class (they depend on how frequent the "
            "classes are)",
            class_plots.confusion_figure(by_named, names, by="predicted"),
        ),
        "snr_figure": Panel(
            "Success rate against S/N",
            plots.snr_figure(success_by_snr),
            not success_by_snr.empty,
        ),
        "occlusion_figure": Panel(
            "Which wavelengths decide: the final network with a window hidden",
            _occlusion_figure(sample, split_manifest, prepared_spectra, occlusion, sweep, outcome),
            not occlusion.empty,
        ),
        **_rare_panels(
            rare, rare_class, generator_history, synthetic_lines, audit, n_classes=len(names)
        ),
    }
    warnings = _warnings(generator_history, synthetic, split_manifest, sweep, success_rates)
    words = " ".join(filter(None, (rare_in_words(rare_class, rare), warnings, audit_sentences)))
    head = _head(sample, rejected, split_manifest, names)
    report = render_report(
        Path(__file__).parent / "report.html.jinja", panels,
        scores=success_rates, measure=measure, names=names, reference=FOREST_BASELINE, arms=arms,
        classes=class_scores, rare=rare_class, rare_warning=warnings, rare_name=rare,
        rejected=rejected, unused=unused_spectra(sample, split_manifest), info=model_info,
        selection=selection, failed=outcome["failed"], quality=synthetic_quality,
        audit_sentences=audit_sentences,
    )  # fmt: skip
    summary = summary_text(success_rates, measure, head, "spectra", FOREST_BASELINE, words)
    figures = {name: panel.figure for name, panel in panels.items()}
    return {**figures, "report": report, "summary": summary}


def _rare_panels(rare, scores, generators, lines, audit, n_classes):
    """What is done for the rare class, and what comes of it."""
    return {
        "rare_class_figure": Panel(
            f"The rare class {rare}, on observed stars that no training saw",
            plots.rare_figure(scores, rare),
            not scores.empty,
        ),
        "generators_figure": Panel(
            "Networks that make spectra",
            generators_figure(generators, _MEASURES),
            not generators.empty,
        ),
        "lines_figure": Panel(
            "Equivalent widths of made spectra",
            plots.lines_figure(lines),
            not lines.empty,
        ),
        "audit_figure": Panel(
            "Audit: the published recipe",
            plots.audit_figure(audit, n_classes, rare),
            not audit.empty,
        ),
    }


def _occlusion_figure(sample, manifest, prepared, occlusion, sweep, outcome):
    """The mean prepared spectrum of each class, and what hiding a part of it costs."""
    chosen = outcome["chosen"]
    features = (Configuration.model_validate(chosen) if chosen else sweep.base).features
    flux, means = prepared[features.prepared](), {}
    rows, classes = rows_and_classes(sample, manifest)
    for label, name in enumerate(class_names(sample, manifest)):
        means[name] = flux[rows[classes == label]].mean(axis=0)
    return plots.occlusion_figure(wavelengths(features), means, occlusion)


def _head(sample, rejected, manifest, names):
    """What was read, and what became of it."""
    n_kept = int(sample["keep"].sum())
    n_left = n_kept - manifest["id"].nunique()
    words = f"{n_kept} spectra kept of {len(sample)} read, {len(rejected)} rejected"
    if n_left and names:
        words += f"; {n_left} left out of the split, which has {', '.join(names)}"
    return words


def _warnings(generators, synthetic, manifest, sweep, scores):
    """What the reader of a result must know of the made spectra."""
    warnings = [
        f"Warning, generator of fold {row.fold}: {row.verdict}." for row in _useless(generators)
    ]
    missing = without_pool(synthetic, manifest, sweep)
    if missing and len(scores):
        rare = sweep.base.augmentation.rare_class
        warnings.append(f"Warning, like none for want of {rare} stars: {missing}.")
    return " ".join(warnings)


def rare_in_words(rare: pd.DataFrame, name: str) -> str:
    """What the terminal says of the rare class."""
    if rare.empty:
        return ""
    parts = [
        f"{row.configuration} {row.recall:.2f} ({row.recall_low:.2f}-{row.recall_high:.2f}) of "
        f"{row.n_objects}"
        for row in rare.itertuples()
    ]
    return f"Recall of observed {name} spectra (95 %): {', '.join(parts)}."


def describe_runs(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    success_rates: pd.DataFrame,
    predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    learning_curves: pd.DataFrame,
    audit: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
    summary: str,
) -> dict[str, Any]:
    """What MLflow is told: the run, and a child for each configuration and baseline.

    Returns
    -------
    dict
        From `skyloom.learning.runs.describe_run`; fits of the audit are children, too.
    """
    measure = classification_of(split_manifest)
    children = describe_children(
        Configuration, measure, success_rates, inner_scores, learning_curves, outcome
    )
    for (labels, kernel), part in audit.groupby(["labels", "kernel_size"]):
        name = f"audit, {labels} classes, kernel {kernel}"
        measured = part.drop(columns=["labels", "kernel_size", "repeat"]).mean()
        children.append(
            {
                "name": name,
                "params": run_parameters(Configuration, None, name, "audit"),
                "metrics": {f"audit_{key}": float(value) for key, value in measured.items()},
                "curves": {},
                "file": file_name(name),
            }
        )
    augmentation = sweep.base.augmentation
    params = {
        "split": "surveys" if sweep.parameters.test_surveys else augmentation.split,
        "rare_class": augmentation.rare_class,
    }
    return describe_run(
        "stellar_spectra", sweep, sample, split_manifest, measure, success_rates, predictions,
        summary=summary, params=params, children=children,
    )  # fmt: skip
