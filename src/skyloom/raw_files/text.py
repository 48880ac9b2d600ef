"""Text in files, whatever wrote it."""

from __future__ import annotations

import codecs

from skyloom.raw_files.files import UnusableError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BREAKS = frozenset("\t\n\r\f\v\x1a")  # the last one ends a file of DOS


def decode(content: bytes) -> str:
    """Text of a file's bytes.

    Parameters
    ----------
    content : bytes
        UTF-8 or UTF-16, as their first bytes say; UTF-8 without such; else Latin-1 as Windows
        writes it.

    Returns
    -------
    str
        Without a byte-order mark; lines end with a line feed alone.

    Raises
    ------
    UnusableError
        If the bytes are no text: there are characters in it that nobody writes.

    Examples
    --------
    >>> decode("Å".encode("latin-1")), decode("Å".encode("utf-16"))
    ('Å', 'Å')
    """
    encodings = [name for mark, name in _MARKS if content.startswith(mark)][:1]
    for encoding in encodings or ("utf-8", "cp1252", "latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if all(mark in _BREAKS or mark.isprintable() or mark.isspace() for mark in set(text)):
            return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a")
    raise UnusableError("no text", f"{content[:16]!r}")
