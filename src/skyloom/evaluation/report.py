"""The table and the page that end a run."""

from __future__ import annotations

import base64
import hashlib
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

import skyloom
from skyloom.evaluation.measures import Column, Measure
from skyloom.evaluation.population import population_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def data_fingerprint(objects: pd.DataFrame) -> str:
    """SHA-256 of the accepted ids and file hashes, whatever their order.

    Parameters
    ----------
    objects : pandas.DataFrame
        ``id`` and ``sha256``.

    Returns
    -------
    str
    """
    lines = sorted(objects["id"] + " " + objects["sha256"])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def summary_text(
    scores: pd.DataFrame, measure: Measure, head: str, objects: str, reference: str, words: str = ""
) -> str:
    """The result table as it ends a run in the terminal.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    measure : Measure
        What was asked: its headline and brief columns are shown.
    head : str
        What was accepted and rejected.
    objects : str
        What is tested, in the plural.
    reference : str
        Configuration that stands beside all others.
    words : str
        Further sentences.

    Returns
    -------
    str
    """
    ending = ["", textwrap.fill(words, 100)] if words else []
    if scores.empty:
        what = "a classifier" if measure.has_classes else "a network"
        head = f"{head}; too few labelled {objects} to train and test {what}"
        return "\n".join([head, *ending]) + "\n"
    first = scores.iloc[0]
    table = results_table(scores, measure, brief=True)
    own = scores["configuration"] == reference
    beside = format(scores.loc[own, measure.headline.name].iloc[0], measure.headline.form)
    table.insert(3, f"{reference.partition(',')[0]} baseline", beside)
    widths = [max(len(name), table[name].str.len().max()) for name in table]
    rows = [table.columns.tolist(), *table.to_numpy().tolist()]
    lines = [
        f"{head}; {first['n_objects']} {objects} tested, "
        f"{'classes' if measure.has_classes else 'truth'} from: {first['label_source']}",
        "",
        *(
            # Names to the left, numbers to the right.
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ),
    ]
    if "p_value_of" in scores:
        lines += ["", f"The first p-value is of {first['p_value_of']}."]
    return "\n".join([*lines, *ending]) + "\n"


def results_table(
    scores: pd.DataFrame, measure: Measure, *, names: Sequence[str] = (), brief: bool = False
) -> pd.DataFrame:
    """The main table of results, as it is shown.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    measure : Measure
        What was asked.
    names : sequence of str
        Of the classes, where the recall of each is to be shown.
    brief : bool
        As in a terminal.

    Returns
    -------
    pandas.DataFrame of str
        One row a configuration: its name, the headline with its 95 % interval, chance, and the
        columns of the measure; empty cells where a score is not known.
    """
    columns = [column for column in measure.columns if column.brief or not brief]
    columns += [Column(f"recall_{k}", f"recall, {name}", ".2f") for k, name in enumerate(names)]
    configuration = scores["configuration"]
    table = {
        "configuration": configuration if brief else configuration + " (" + scores["kind"] + ")",
        f"{measure.headline.title} (95 %)": [measure.in_words(row) for _, row in scores.iterrows()],
    }
    for column in (Column("chance_level", "chance", measure.headline.form), *columns):
        if column.name in scores:
            table[column.title] = [
                format(value, column.form) if value == value else ""  # NaN is not itself
                for value in scores[column.name]
            ]
    return pd.DataFrame(table)


def differences(scores: pd.DataFrame, measure: Measure) -> list[str]:
    """Paired difference of each configuration to the reference, with its 95 % interval.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    measure : Measure
        Whose headline has as many digits.

    Returns
    -------
    list of str
    """
    names = ("minus_baseline", "minus_baseline_low", "minus_baseline_high")
    form = f"+{measure.headline.form}"
    return [
        f"{format(difference, form)} ({format(low, form)} to {format(high, form)})"
        for difference, low, high in scores[list(names)].to_numpy()
    ]


class Panel(NamedTuple):
    """A figure of the report.

    Attributes
    ----------
    title : str
        Above it.
    figure : matplotlib.figure.Figure
    shown : bool
        Whether there is anything to be seen on it; the file is written all the same.
    """

    title: str
    figure: Figure
    shown: bool = True


def render_report(
    template: Path,
    panels: dict[str, Panel],
    *,
    scores: pd.DataFrame,
    measure: Measure,
    names: Sequence[str] = (),
    reference: str,
    **content: Any,
) -> str:
    """A page with everything embedded.

    Parameters
    ----------
    template : pathlib.Path
        The study's own; it may extend ``report.html.jinja`` of this folder.
    panels : dict of str to Panel
        By the name of the figure.
    scores : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`; may be empty.
    measure : Measure
        What was asked.
    names : sequence of str
        Of the classes, if there are any.
    reference : str
        What the paired differences are to.
    **content
        What the template shows.

    Returns
    -------
    str
        HTML.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader

    pictures = {}
    for panel in panels.values():
        if panel.shown:
            buffer = io.BytesIO()
            panel.figure.savefig(buffer, format="png")
            pictures[panel.title] = base64.b64encode(buffer.getvalue()).decode()
    shared = {"shared": FileSystemLoader(Path(__file__).parent)}
    environment = Environment(
        loader=ChoiceLoader([PrefixLoader(shared), FileSystemLoader(template.parent)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name)
    results = pd.DataFrame()
    if len(scores):
        results = results_table(scores, measure, names=names)
        results[f"minus {reference} (95 %)"] = differences(scores, measure)
    return page.render(
        pictures=pictures, version=skyloom.__version__, nan=float("nan"), scores=scores,
        results=results, measure=measure, names=names, reference=reference, **content,
    )  # fmt: skip


def summarise_classes(
    classes: pd.DataFrame,
    rejected: pd.DataFrame,
    classifier: tuple[Any, dict[str, Any]],
    population: dict[str, Any],
) -> tuple[dict[str, pd.DataFrame], str]:
    """What was predicted for a folder of new files, as a workbook and in words.

    Parameters
    ----------
    classes : pandas.DataFrame
        ``class``, empty where an object was not classified, ``unlike_training``, and perhaps
        ``warning``: what a sample for training would not have had.
    rejected : pandas.DataFrame
        Files that were not read, with their ``reason``.
    classifier : tuple of (keras.Model, dict)
        What classified them; of its description ``n_objects`` and ``objects`` are told.
    population : dict
        From `skyloom.evaluation.population.describe_population`.

    Returns
    -------
    workbook : dict of str to pandas.DataFrame
        Sheets ``classes`` and ``rejected``.
    summary : str
        For the terminal.
    """
    # From a file a column without a word comes back as missing numbers.
    names = classes["class"].astype(object).fillna("")
    counts = names[names != ""].value_counts()
    description = {"n_objects": "many", "objects": "objects"} | classifier[1]
    training = f"the {description['n_objects']} {description['objects']} of the training"
    words = [
        f"{len(classes) + len(rejected)} files: {int(counts.sum())} classified, "
        f"{int((names == '').sum())} without a usable fit, {len(rejected)} rejected "
        f"({_counted(rejected['reason']) or 'none'}).",
        "Classes: " + ", ".join(f"{count} {name}" for name, count in counts.items()) + ".",
        f"{int(classes.loc[names != '', 'unlike_training'].sum())} are unlike {training}: "
        "their probabilities mean little.",
        population_in_words(population),
    ]
    if "warning" in classes:
        warnings = classes["warning"].dropna().astype(str)
        reasons = _counted(warnings[warnings != ""].str.split(":").str[0])
        if reasons:
            words.append(f"A sample for training would not have had: {reasons}.")
    return {"classes": classes, "rejected": rejected}, "\n".join(words) + "\n"


def _counted(values):
    return ", ".join(f"{count} {value}" for value, count in values.value_counts().items())
