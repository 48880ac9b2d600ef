"""What is said of new files, whatever their table looks like as it comes back from disk."""

import io

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.measures import classification, regression
from skyloom.evaluation.report import differences, summarise_classes

REJECTED = pd.DataFrame({"file": ["c.fits"], "reason": ["cut"]})
CLASSIFIER = (None, {"n_objects": 12, "objects": "sources"})
POPULATION = {"of": "given", "shares": {"FRI": 0.9, "bent": 0.1}}


def from_disk(**columns):
    """A table as the catalog gives it: a column without a word comes back as missing numbers."""
    table = pd.DataFrame({"id": ["a", "b"], "unlike_training": [True, False], **columns})
    return pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype={"id": str})


@pytest.mark.parametrize(
    ("warnings", "words"),
    [
        (["", ""], None),
        (["faint: S/N 3", ""], "would not have had: 1 faint."),
        (["faint: S/N 3", "faint: S/N 4"], "would not have had: 2 faint."),
    ],
)
def test_warnings_are_counted_by_their_reason(warnings, words):
    table = from_disk(**{"class": ["FRI", "bent"], "warning": warnings})
    workbook, summary = summarise_classes(table, REJECTED, CLASSIFIER, POPULATION)
    assert "3 files: 2 classified, 0 without a usable fit, 1 rejected (1 cut)." in summary
    assert "1 are unlike the 12 sources of the training" in summary
    assert "for the population that was given (FRI 0.9, bent 0.1)." in summary
    assert ("would not have had" in summary) == (words is not None)
    assert (words or "") in summary
    assert list(workbook) == ["classes", "rejected"]


def test_where_nothing_was_classified_that_is_said():
    table = from_disk(**{"class": ["", ""], "warning": ["", ""]})
    _, summary = summarise_classes(table, REJECTED[:0], CLASSIFIER, POPULATION)
    assert "2 files: 0 classified, 2 without a usable fit, 0 rejected (none)." in summary


def test_differences_have_the_digits_of_their_measure():
    scores = pd.DataFrame(
        {"minus_baseline": [-6.666], "minus_baseline_low": [np.nan], "minus_baseline_high": [1]}
    )
    assert differences(scores, classification(2)) == ["-6.666 (+nan to +1.000)"]
    assert differences(scores, regression(unit="deg")) == ["-6.67 (+nan to +1.00)"]
