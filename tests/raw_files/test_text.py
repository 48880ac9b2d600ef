"""Text is understood whatever wrote it, and bytes that are none are said to be none."""

import numpy as np
import pytest

from skyloom.raw_files import UnusableError
from skyloom.raw_files.text import decode

TEXT = "id,Größe\nÅ 1,2\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"]
)
def test_any_encoding_is_found_out(encoding):
    assert decode(TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_end_as_on_any_system(end):
    assert decode(TEXT.replace("\n", end).encode()) == TEXT


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfe\x00", np.random.default_rng(1).bytes(500)],
    ids=["picture", "half a character", "anything"],
)
def test_bytes_that_are_no_text_are_refused(content):
    with pytest.raises(UnusableError, match="no text"):
        decode(content)
