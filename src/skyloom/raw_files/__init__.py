"""Files as they come: one way of names, units, positions and tables for all studies."""

from skyloom.raw_files.files import (
    REJECTION_COLUMNS,
    RawFile,
    Reader,
    UnusableError,
    load_bytes,
    read_file,
)

__all__ = [
    "REJECTION_COLUMNS",
    "RawFile",
    "Reader",
    "UnusableError",
    "load_bytes",
    "read_file",
]
