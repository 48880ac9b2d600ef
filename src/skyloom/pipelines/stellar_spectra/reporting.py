"""Node functions of the reporting: the rare class, S/N, deciding wavelengths, figures, report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import skyloom
from skyloom.evaluation.report import data_fingerprint, render_report, summary_text
from skyloom.evaluation.scores import (
    class_scores,
    confusion_table,
    paired_difference,
    success_interval,
)
from skyloom.evaluation.synthetic import (
    diversity,
    kernel_distance,
    share_of_copies,
    spectrum_error,
)
from skyloom.learning.comparison import (
    ARM_COLUMNS,
    NESTED,
    along_axis,
    compare_arms,
    describe_children,
    file_name,
    reference_networks,
    run_parameters,
    score_comparison,
    workbooks_of,
)
from skyloom.pipelines.stellar_spectra.augmentation import (
    LEAST_DIVERSE,
    MOST_UNLIKE,
    class_names,
    rare_training_rows,
)
from skyloom.pipelines.stellar_spectra.features import as_input, lines_of, wavelengths
from skyloom.pipelines.stellar_spectra.parameters import (
    MADE_ARMS,
    Configuration,
    ReportingParameters,
    Sweep,
)
from skyloom.pipelines.stellar_spectra.training import (
    FOREST_BASELINE,
    MAJORITY_BASELINE,
    rare_number,
    rare_scorer,
)
from skyloom.plots import classification
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
OCCLUSION_COLUMNS = ("class", "low", "high", "drop", "error", "n_spectra")
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
    scores, all_predictions, selection : pandas.DataFrame
        From `skyloom.learning.comparison.score_comparison`; the scores with the intervals of each
        recall, and of recall and precision of the rare class.
    arms : pandas.DataFrame
        From `skyloom.learning.comparison.compare_arms`.
    classes : pandas.DataFrame
        `CLASS_COLUMNS`, one row a configuration and class, from
        `skyloom.evaluation.scores.class_scores`.
    rare : pandas.DataFrame
        `RARE_COLUMNS`: those of the rare class, with the paired difference of its recall to that
        of the network that differs in nothing but that nothing is done for the class. Without
        configurations that were not tested on all of its stars, as the trials of a search.
    snr : pandas.DataFrame
        `SNR_COLUMNS`: success rates in bins of S/N with equal numbers of spectra.
    """
    names, sweep = class_names(sample, split_manifest), sweep
    score = rare_scorer(
        baseline_predictions, split_manifest, rare_number(names, sweep), reporting.seed
    )
    used = sample[sample["id"].isin(split_manifest["id"])]
    source = ", ".join(sorted(used["label_source"].unique()))
    scores, everything, selected = score_comparison(
        network_predictions, inner_scores, permutations, baseline_predictions, score, source
    )
    if scores.empty:
        nothing = (ARM_COLUMNS, CLASS_COLUMNS, RARE_COLUMNS, SNR_COLUMNS)
        return scores, everything, selected, *(pd.DataFrame(columns=list(c)) for c in nothing)
    configurations = outcome["configurations"]
    scores, arms = compare_arms(scores, everything, configurations, reporting.seed)
    population = dict(zip(CLASSES, reporting.population, strict=True))
    tables = []
    for (name, kind), part in everything.groupby(["configuration", "kind"], sort=False):
        table = class_scores(part, [population[each] for each in names])
        tables.append(table.assign(configuration=name, kind=kind, **{"class": names}))
    classes = pd.concat(tables, ignore_index=True)[list(CLASS_COLUMNS)]
    if any(share for name, share in population.items() if name not in names):
        # How many of a class that nobody tested would be named otherwise is not known.
        classes[["purity", "purity_low", "purity_high"]] = np.nan
    rare_name = sweep.base.augmentation.rare_class
    rare = _rare_table(classes, everything, configurations, names, rare_name, reporting.seed)
    return (
        scores,
        everything,
        selected,
        arms,
        classes,
        rare,
        _by_snr(everything, sample, reporting),
    )


def _rare_table(classes, predictions, configurations, names, rare, seed):
    """Scores of the rare class, and what its recall gains."""
    own = classes[classes["class"] == rare]
    if own.empty or not own["n_objects"].max():
        return pd.DataFrame(columns=list(RARE_COLUMNS))
    tested = predictions[predictions["class"] == names.index(rare)]
    networks = own.loc[own["kind"] != "nested", "configuration"].tolist()
    minus = reference_networks(networks, configurations)
    minus[NESTED] = minus[networks[0]]
    rows = []
    for _, row in own.iterrows():
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


def _by_snr(predictions, sample, parameters):
    """Success rates in bins of S/N, of the nested procedure and of the first baseline."""
    shown = predictions[predictions["configuration"].isin([NESTED, FOREST_BASELINE])]
    known = shown.merge(sample[["id", "snr"]], on="id")
    known = known[np.isfinite(known["snr"])]
    if known.empty:
        return pd.DataFrame(columns=list(SNR_COLUMNS))
    ends = np.linspace(0, 1, parameters.n_snr_bins + 1)
    edges = np.unique(np.quantile(known.drop_duplicates("id")["snr"], ends))
    number = np.clip(np.searchsorted(edges, known["snr"], "right") - 1, 0, max(0, len(edges) - 2))
    rows = []
    for (name, _), part in known.groupby(["configuration", number], sort=False):
        n = part["id"].nunique()
        rate = float((part["class"] == part["predicted"]).mean())
        rows.append(
            (name, part["snr"].median(), part["snr"].min(), part["snr"].max(), n, rate,
             *success_interval(rate, n))
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(SNR_COLUMNS))
    return table.sort_values(["configuration", "snr"], ignore_index=True)


def explain_by_occlusion(
    sample: pd.DataFrame,
    prepared_spectra: dict[str, Callable[[], np.ndarray]],
    split_manifest: pd.DataFrame,
    classifier: Any,
    classifier_description: dict[str, Any],
    reporting: ReportingParameters,
) -> pd.DataFrame:
    """Which wavelengths decide: what hiding a window costs the true class.

    Returns
    -------
    pandas.DataFrame
        `OCCLUSION_COLUMNS`, one row a class and window: ``low`` and ``high`` (Angstrom), mean
        ``drop`` of the probability of the true class and its standard error.
    """
    if not classifier_description["trained"]:
        return pd.DataFrame(columns=list(OCCLUSION_COLUMNS))
    from skyloom.learning.fitting import predict

    features = Configuration.model_validate(classifier_description["configuration"]).features
    flux, wavelength = prepared_spectra[features.prepared](), wavelengths(features)
    n_windows = max(1, round((wavelength[-1] - wavelength[0]) / reporting.occlusion_width))
    edges = np.linspace(wavelength[0], wavelength[-1], n_windows + 1)
    window = np.clip(np.searchsorted(edges, wavelength, "right") - 1, 0, n_windows - 1)
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    objects = split_manifest.drop_duplicates("id")
    rows = []
    for label, part in objects.groupby("class"):
        ids = part["id"].head(reporting.n_occluded)
        shown = np.asarray(flux[row_of.loc[ids].to_numpy()])
        whole = predict(classifier, as_input(shown, features))[:, label]
        for k in range(n_windows):
            inside = window == k
            # The window is bridged by what is around it; corrected spectra lie at 1 there.
            level = 1.0 if features.preparation == "corrected" else _around(shown, inside)
            hidden = np.where(inside, level, shown)
            drop = whole - predict(classifier, as_input(hidden, features))[:, label]
            error = drop.std(ddof=1) / np.sqrt(len(drop)) if len(drop) > 1 else np.nan
            name = classifier_description["class_names"][label]
            rows.append((name, edges[k], edges[k + 1], drop.mean(), error, len(drop)))
    return pd.DataFrame(rows, columns=list(OCCLUSION_COLUMNS))


def _around(flux, inside):
    """Mean flux of the pixels beside a window, shape (n, 1)."""
    first, last = np.flatnonzero(inside)[[0, -1]]
    beside = np.r_[max(0, first - 10) : first, last + 1 : last + 11]
    return flux[:, beside[beside < flux.shape[1]]].mean(axis=1, keepdims=True)


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
        `QUALITY_COLUMNS`: first, for each fold, held-out observed stars, with which the others are
        to be compared. ``line_error`` is the median over the lines of the Kolmogorov-Smirnov
        distance of equivalent widths to those of the training stars; ``diversity`` is in units of
        that of the training stars; see `skyloom.evaluation.synthetic` for the others.
    lines : pandas.DataFrame
        `LINE_COLUMNS`: equivalent widths (Angstrom) of the first fold, with the Kolmogorov-Smirnov
        distance (0 to 1) to those of the observed stars of the class.
    """
    nothing = tuple(pd.DataFrame(columns=list(c)) for c in (QUALITY_COLUMNS, LINE_COLUMNS))
    if not classifier_description["trained"] or synthetic.empty:
        return nothing
    import keras
    from scipy.stats import ks_2samp

    from skyloom.learning.fitting import predict

    features = Configuration.model_validate(classifier_description["configuration"]).features
    rare = sweep.base.augmentation.rare_class
    flux = prepared_spectra[features.prepared]()
    space = keras.Model(classifier.inputs, classifier.layers[-1].input)
    members = rare_training_rows(sample, split_manifest, rare)
    used = set(split_manifest["id"])
    every = np.flatnonzero((sample["class"] == rare) & sample["id"].isin(used))
    rows, lines = [], []

    def seen(spectra):
        return predict(space, as_input(spectra, features))

    def distances(ours, theirs):
        tests = {}
        for name in LINE_INDICES:
            one, other = ours[name].dropna(), theirs[name].dropna()
            if min(len(one), len(other)) >= _FEWEST:
                tests[name] = ks_2samp(one, other)
        return tests

    for fold, learnt in members.items():
        train, held = flux[learnt], flux[np.setdiff1d(every, learnt)]
        if min(len(train), len(held)) < _FEWEST:
            logger.warning("fold %d has too few %s stars to judge made ones", fold, rare)
            continue
        groups = {"observed, held out": held} | {
            row.arm: np.asarray(synthetic_spectra[row.pool]())
            for row in synthetic.itertuples()
            if row.pool.endswith(f"_fold_{fold}_{features.prepared}")
        }
        ours, usual, widths = seen(train), seen(held), lines_of(train, features)
        for name, made in groups.items():
            theirs, own = seen(made), lines_of(made, features)
            apart = [test.statistic for test in distances(widths, own).values()]
            rows.append(
                (name, fold, len(made), len(held), spectrum_error(train, made),
                 float(np.median(apart)) if apart else np.nan, kernel_distance(ours, theirs),
                 diversity(theirs) / diversity(ours), share_of_copies(theirs, ours, usual))
            )  # fmt: skip
        if lines:
            continue
        observed = lines_of(flux[every], features)
        tables = {f"observed {rare}": observed}
        tables |= {
            arm: lines_of(made, features) for arm, made in groups.items() if made is not held
        }
        for name, table in tables.items():
            tests = distances(observed, table)
            for line in LINE_INDICES:
                known = table[line].dropna()
                if not len(known):
                    continue
                quartiles = np.percentile(known, [50, 25, 75])
                test = tests.get(line)
                # No p-value: many copies of a few stars are no sample of so many.
                apart = np.nan if test is None else test.statistic
                lines.append((name, line, len(known), *quartiles, apart))
    return (
        pd.DataFrame(rows, columns=list(QUALITY_COLUMNS)),
        pd.DataFrame(lines, columns=list(LINE_COLUMNS)),
    )


def write_workbooks(
    sample: pd.DataFrame, predictions: pd.DataFrame, measurements: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration: predictions, and their merge with labels and measurements.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        From `skyloom.learning.comparison.workbooks_of`.
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
    tested = sweep.parameters.test_surveys
    split = (
        f"tested on {', '.join(tested)}, trained on "
        f"{', '.join(sweep.parameters.train_surveys) or 'the other surveys'}"
        if tested
        else augmentation.split
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
        f"({sorted(int(seed) for seed in split_manifest['seed'].unique())}), which stands for initial "
        "weights, batches and the choice of made spectra; made before augmentation and written "
        "down.",
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
    """Arms and folds for which there is nothing to train on beside the observed stars.

    Parameters
    ----------
    synthetic, manifest : pandas.DataFrame
        The pools and the split.
    sweep : Sweep
        What was to be compared.

    Returns
    -------
    str
        Empty where nothing is missing.
    """
    wanted = MADE_ARMS & set(sweep.arms)
    there = set(zip(synthetic["arm"], synthetic["fold"].astype(int), strict=True))
    folds = sorted(int(fold) for fold in manifest["fold"].unique())
    missing = [(arm, fold) for arm in sorted(wanted) for fold in folds if (arm, fold) not in there]
    return ", ".join(f"{arm} (fold {fold})" for arm, fold in missing)


def unused_spectra(sample: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """What was read and is not in the split, with the reason.

    Parameters
    ----------
    sample, manifest : pandas.DataFrame
        The stars and their split.

    Returns
    -------
    pandas.DataFrame
        ``id`` and ``reason``.
    """
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
) -> tuple[Any, ...]:
    """Draw the figures and write the self-contained report and the table for the terminal.

    Returns
    -------
    success_rates, arms, study, rare_class, snr, learning_curves, confusion, \
    confusion_by_prediction, reliability, occlusion, generators, lines, audit : Figure
    report : str
        HTML with everything embedded.
    summary : str
        The result table as text.
    """
    names = class_names(sample, split_manifest)
    name = sweep.base.augmentation.rare_class
    networks = success_rates[success_rates["kind"] == "network"]["configuration"].tolist()
    shown = networks[:_N_SHOWN]
    parts = {
        configuration: part
        for configuration, part in predictions.groupby("configuration", sort=False)
        if configuration not in (MAJORITY_BASELINE, NESTED)
        and (configuration in shown or part["kind"].iloc[0] == "baseline")
    }
    by_true, by_named = (
        {key: confusion_table(part, len(names), by=by) for key, part in parts.items()}
        for by in ("true", "predicted")
    )
    minus = arms["minus"].unique()
    references = minus[0] if len(minus) == 1 else "its reference (see the table)"
    along, axis = along_axis(arms, sweep, outcome["configurations"])
    features = sweep.base.features
    if outcome["chosen"] is not None:
        features = Configuration.model_validate(outcome["chosen"]).features
    rare_title = f"The rare class {name}, on observed stars that no training saw"
    occlusion_title = "Which wavelengths decide: the final network with a window hidden"
    figures = {
        "Success rates": classification.success_rate_figure(success_rates, "spectra"),
        "Networks and baselines on the same test spectra": classification.arms_figure(
            arms, references
        ),
        "Along the axis of the study": classification.axis_figure(along, axis),
        rare_title: plots.rare_figure(rare_class, name),
        "Success rate against S/N": plots.snr_figure(success_by_snr),
        "Learning curves": classification.learning_curves_figure(
            learning_curves[learning_curves["configuration"].isin(shown)]
        ),
        "Confusion matrices, normalised by true class": classification.confusion_figure(
            by_true, names
        ),
        "Confusion matrices, normalised by predicted class (they depend on how frequent the "
        "classes are)": classification.confusion_figure(by_named, names, by="predicted"),
        "Reliability of the probabilities": classification.reliability_figure(
            predictions[predictions["configuration"].isin(shown)]
        ),
        occlusion_title: plots.occlusion_figure(
            wavelengths(features),
            _mean_spectra(sample, split_manifest, prepared_spectra, features, names),
            occlusion,
        ),
        "Networks that make spectra": generators_figure(generator_history, _MEASURES),
        "Equivalent widths of made spectra": plots.lines_figure(synthetic_lines),
        "Audit: the published recipe": plots.audit_figure(audit, len(names), name),
    }
    warnings = " ".join(
        f"Warning, generator of fold {row.fold}: {row.verdict}."
        for row in _useless(generator_history)
    )
    missing = without_pool(synthetic, split_manifest, sweep)
    if missing and len(success_rates):
        warnings += f" Warning, like none for want of {name} stars: {missing}."
    n_kept = int(sample["keep"].sum())
    n_left = n_kept - split_manifest["id"].nunique()
    head = f"{n_kept} spectra kept of {len(sample)} read, {len(rejected)} rejected"
    if n_left and len(success_rates):
        head += f"; {n_left} left out of the split, which has {', '.join(names)}"
    words = " ".join(filter(None, (rare_in_words(rare_class, name), warnings, audit_sentences)))
    summary = summary_text(success_rates, head, "spectra", FOREST_BASELINE, words)
    empty = {
        "Along the axis of the study": along.empty,
        rare_title: rare_class.empty,
        "Success rate against S/N": success_by_snr.empty,
        occlusion_title: occlusion.empty,
        "Networks that make spectra": generator_history.empty,
        "Equivalent widths of made spectra": synthetic_lines.empty,
        "Audit: the published recipe": audit.empty,
    }
    report = render_report(
        Path(__file__).parent / "report.html.jinja",
        {title: figure for title, figure in figures.items() if not empty.get(title)},
        scores=success_rates,
        arms=arms,
        classes=class_scores,
        rare=rare_class,
        rare_warning=warnings,
        rare_name=name,
        reference=FOREST_BASELINE,
        rejected=rejected,
        unused=unused_spectra(sample, split_manifest),
        info=model_info,
        names=names,
        selection=selection,
        failed=outcome["failed"],
        quality=synthetic_quality,
        audit_sentences=audit_sentences,
    )
    return (*figures.values(), report, summary)


def rare_in_words(rare: pd.DataFrame, name: str) -> str:
    """What the terminal says of the rare class.

    Parameters
    ----------
    rare : pandas.DataFrame
        `RARE_COLUMNS`.
    name : str
        Of the class.

    Returns
    -------
    str
    """
    if rare.empty:
        return ""
    parts = [
        f"{row.configuration} {row.recall:.2f} ({row.recall_low:.2f}-{row.recall_high:.2f}) of "
        f"{row.n_objects}"
        for row in rare.itertuples()
    ]
    return f"Recall of observed {name} spectra (95 %): {', '.join(parts)}."


def _mean_spectra(sample, manifest, prepared, features, names):
    """Mean prepared spectrum of each class of the split."""
    if manifest.empty:
        return {}
    flux = prepared[features.prepared]()
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    objects = manifest.drop_duplicates("id")
    return {
        names[label]: flux[row_of.loc[part["id"]].to_numpy()].mean(axis=0)
        for label, part in objects.groupby("class")
    }


def describe_runs(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    success_rates: pd.DataFrame,
    inner_scores: pd.DataFrame,
    learning_curves: pd.DataFrame,
    audit: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
) -> dict[str, Any]:
    """What MLflow is told: the run, and a child for each configuration and baseline.

    Returns
    -------
    dict
        ``tags`` and ``params`` of the parent; ``children`` as
        `skyloom.tracking.ParentRun.log_child` takes them.
    """
    used, sweep = split_manifest.drop_duplicates("id"), sweep
    children = describe_children(
        Configuration, success_rates, inner_scores, learning_curves, outcome
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
    return {
        "name": "stellar_spectra",
        "tags": {
            "data_fingerprint": data_fingerprint(sample),
            "label_source": success_rates["label_source"].iloc[0] if len(success_rates) else "none",
            "skyloom_version": skyloom.__version__,
        },
        "params": {
            "n_objects": len(used),
            "n_classes": int(used["class"].nunique()),
            "n_folds": int(split_manifest["fold"].nunique()),
            "split": "surveys" if sweep.parameters.test_surveys else sweep.base.augmentation.split,
            "seeds": [int(seed) for seed in split_manifest["seed"].unique()],
        },
        "children": children,
    }
