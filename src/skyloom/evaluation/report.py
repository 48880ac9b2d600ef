"""The table and the page that end a run."""

from __future__ import annotations

import base64
import hashlib
import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import skyloom

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
    scores: pd.DataFrame, head: str, objects: str, reference: str, words: str = ""
) -> str:
    """The result table as it ends a run in the terminal.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `skyloom.learning.comparison.score_comparison`.
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
        head = f"{head}; too few labelled {objects} to train and test a classifier"
        return "\n".join([head, *ending]) + "\n"
    first = scores.iloc[0]
    baseline = scores.loc[scores["configuration"] == reference, "success_rate"].iloc[0]
    width = max(len(name) for name in scores["configuration"])
    short = f"{reference.partition(',')[0]} baseline"
    lines = [
        f"{head}; {first['n_objects']} {objects} tested, classes from: {first['label_source']}",
        "",
        f"{'configuration':<{width}}  success rate (95 %)    chance  {short}  "
        "balanced acc.  p-value",
    ]
    lines += [
        f"{row['configuration']:<{width}}  {row['success_rate']:.3f} "
        f"({row['success_low']:.3f}-{row['success_high']:.3f})    {row['chance_level']:.3f}  "
        f"{baseline:>{len(short)}.3f}  {row['balanced_accuracy']:>13.3f}  {row['p_value']:>7.4f}"
        for _, row in scores.iterrows()
    ]
    lines += ["", f"The first p-value is of {first['p_value_of']}.", *ending]
    return "\n".join(lines) + "\n"


def render_report(template: Path, figures: dict[str, Figure], **content: Any) -> str:
    """A page with everything embedded.

    Parameters
    ----------
    template : pathlib.Path
        The study's own; it may extend ``report.html.jinja`` of this folder.
    figures : dict of str to matplotlib.figure.Figure
        By title.
    **content
        What the template shows.

    Returns
    -------
    str
        HTML.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader

    pictures = {}
    for title, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        pictures[title] = base64.b64encode(buffer.getvalue()).decode()
    shared = {"shared": FileSystemLoader(Path(__file__).parent)}
    environment = Environment(
        loader=ChoiceLoader([PrefixLoader(shared), FileSystemLoader(template.parent)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name)
    return page.render(pictures=pictures, version=skyloom.__version__, nan=float("nan"), **content)


def classes_in_words(table: pd.DataFrame, rejected: pd.DataFrame, training: str) -> str:
    """What was predicted for a folder of new files, as it ends a run in the terminal.

    Parameters
    ----------
    table : pandas.DataFrame
        ``class``, empty where an object was not classified, and ``unlike_training``.
    rejected : pandas.DataFrame
        Files that were not read, with their ``reason``.
    training : str
        What the classifier was trained on.

    Returns
    -------
    str
    """
    classes = table["class"].fillna("")  # as it comes back from a file
    counts = classes[classes != ""].value_counts()
    reasons = rejected["reason"].value_counts()
    words = [
        f"{len(table) + len(rejected)} files: {int(counts.sum())} classified, "
        f"{int((classes == '').sum())} without a usable fit, {len(rejected)} rejected "
        f"({', '.join(f'{count} {reason}' for reason, count in reasons.items()) or 'none'}).",
        "Classes: " + ", ".join(f"{count} {name}" for name, count in counts.items()) + ".",
        f"{int(table.loc[classes != '', 'unlike_training'].sum())} are unlike {training}: "
        "their probabilities mean little.",
    ]
    return "\n".join(words) + "\n"
