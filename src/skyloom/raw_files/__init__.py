"""Files as they come: one way of names, units, positions and tables for all studies."""

from skyloom.raw_files.files import (
    RawFile,
    Reader,
    UnusableError,
    load_bytes,
    read_file,
)
from skyloom.raw_files.rejections import (
    REJECTION_COLUMNS,
    NothingUsableError,
    tabulate_rejections,
)

__all__ = [
    "REJECTION_COLUMNS",
    "NothingUsableError",
    "RawFile",
    "Reader",
    "UnusableError",
    "load_bytes",
    "read_file",
    "tabulate_rejections",
]
