"""What cannot be used: one table, one message and one error for all studies."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd

REJECTION_COLUMNS = ("file", "reason", "value")
logger = logging.getLogger(__name__)

# A damaged file now and then is usual; more for one reason are a mistake that can be mended.
_MANY = 2
_MANY_SHARE = 0.05


class NothingUsableError(ValueError):
    """None of the files can be used.

    Parameters
    ----------
    message : str
        What was sought, and how many files were rejected for which reason.
    rejected : pandas.DataFrame
        `REJECTION_COLUMNS`, one row a file.
    """

    def __init__(self, message: str, rejected: pd.DataFrame | None = None) -> None:
        super().__init__(message)
        self.rejected = rejected


def tabulate_rejections(
    rejected: Sequence[tuple[str, str, Any]], n_accepted: int, sought: str
) -> pd.DataFrame:
    """Table of the files that were rejected, and a line in the log that counts them by reason.

    Two files or more that are lost for one reason, and more than 5 % of all, are a warning.

    Parameters
    ----------
    rejected : sequence of (str, str, object)
        File, reason and value of each.
    n_accepted : int
        Files that can be used.
    sought : str
        What a file should have held, with its article.

    Returns
    -------
    pandas.DataFrame
        `REJECTION_COLUMNS`.

    Raises
    ------
    NothingUsableError
        If no file is accepted.
    """
    table = pd.DataFrame(rejected, columns=list(REJECTION_COLUMNS))
    n_files = n_accepted + len(table)
    if not n_accepted:
        words = count_reasons(table) or "no observations"
        raise NothingUsableError(f"none of {n_files} files holds {sought}: {words}", table)
    if len(table):
        most = table["reason"].value_counts().max()
        many = most >= _MANY and most > _MANY_SHARE * n_files
        logger.log(
            logging.WARNING if many else logging.INFO,
            "%d of %d files are rejected: %s", len(table), n_files, count_reasons(table),
        )  # fmt: skip
    return table


def count_reasons(rejected: pd.DataFrame) -> str:
    """Say how many files were rejected for each reason, with one of them.

    Parameters
    ----------
    rejected : pandas.DataFrame
        `REJECTION_COLUMNS`.

    Returns
    -------
    str

    Examples
    --------
    >>> count_reasons(pd.DataFrame({"file": ["a", "b"], "reason": "empty", "value": "0 bytes"}))
    '2 empty (such as a: 0 bytes)'
    """
    words = []
    for reason, number in rejected["reason"].value_counts().items():
        first = rejected[rejected["reason"] == reason].iloc[0]
        value = textwrap.shorten(str(first["value"]), 120, placeholder=" ...")
        words.append(f"{number} {reason} ({'such as ' * (number > 1)}{first['file']}: {value})")
    return ", ".join(words)
