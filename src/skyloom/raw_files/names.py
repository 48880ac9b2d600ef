"""What files are called, and which object a row of a table means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

# Only endings of formats that astronomers' files have: the end of J0123+45.6 is none.
_ENDING = re.compile(
    r"\.(fits?|fts|fz|csv|tsv|txt|dat|asc|ascii|ecsv|tbl|spec|vot|votable|xml|npy|npz"
    r"|png|jpe?g|tiff?|gif|gz|bz2|xz|z|zip)$",
    re.IGNORECASE,
)


def file_stem(name: str) -> str:
    """What a file is called, without folder and endings.

    Parameters
    ----------
    name : str
        Path of a file, or an observation id.

    Returns
    -------
    str

    Examples
    --------
    >>> file_stem("a/NGC628.FITS.GZ"), file_stem("J0123+45.6")
    ('NGC628', 'J0123+45.6')
    """
    stem = str(name).strip().rpartition("/")[2]
    while (shorter := _ENDING.sub("", stem)) != stem and shorter:
        stem = shorter
    return stem


# What systems leave in folders and archives, beside hidden files.
_OF_SYSTEMS = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin",
    "system volume information",
}  # fmt: skip


def is_of_user(path: str) -> bool:
    """Whether a file is one that somebody put there, neither hidden nor a system's own.

    Parameters
    ----------
    path : str
        Within a folder or an archive.

    Returns
    -------
    bool

    Examples
    --------
    >>> [is_of_user(path) for path in ("a/1.fits", "a/.DS_Store", "__MACOSX/a/_1", "Thumbs.db")]
    [True, False, False, False]
    """
    parts = path.split("/")
    return not any(part.startswith(".") or part.lower() in _OF_SYSTEMS for part in parts)


# What observers write in place of a name.
_NO_NAMES = {
    "none", "unknown", "null", "nan", "na", "noname", "unnamed", "anonymous", "undefined",
    "untitled", "default", "tbd", "xxx", "star", "object", "obj", "target", "source", "science",
    "sci", "field", "test", "sky", "blank", "offset", "background", "standard", "std", "flux",
    "telluric", "spec", "spectrum", "image", "galaxy", "fiber", "fibre", "calibration", "calib",
    "cal", "lamp", "arc", "comp", "bias", "dark", "flat", "twilight", "dome", "focus",
}  # fmt: skip


def names_an_object(name: str) -> bool:
    """Whether a name can be that of one object.

    Parameters
    ----------
    name : str
        As a header or a table has it.

    Returns
    -------
    bool
        False where there is neither a letter nor a digit, or no other word than those which
        observers write in place of a name.

    Examples
    --------
    >>> [names_an_object(name) for name in ("HD 2857", "1021", "STD,FLUX", "sky 3", "n/a", "-")]
    [True, True, False, False, False, False]
    """
    words = re.findall(r"[^\W\d_]+", name.lower())
    if not words:
        return any(character.isdigit() for character in name)
    return not (set(words) <= _NO_NAMES or "".join(words) in _NO_NAMES)


def object_name(name: str) -> str:
    """Name of an object as every catalogue would write it.

    Parameters
    ----------
    name : str
        Such as ``HD 2857``, ``HD002857`` or ``hd2857``.

    Returns
    -------
    str
        Upper case, without blanks and leading zeros of numbers.

    Examples
    --------
    >>> object_name("HD 002857") == object_name("hd2857")
    True
    """
    return re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"[\s_]+", "", name.upper()))


def object_ids(files: Iterable[str], name_of: Callable[[str], str] = file_stem) -> dict[str, str]:
    """Ids of the objects in files: their names, with the folder where names restart in each.

    Parameters
    ----------
    files : iterable of str
        Paths within the folder of observations.
    name_of : callable
        What a file is called, by its path.

    Returns
    -------
    dict of str to str
        Id by path. Files of one folder that differ only in their endings have the same one.

    Examples
    --------
    >>> object_ids(["a/1.fits", "b/1.fits", "b/2.fits"])
    {'a/1.fits': 'a/1', 'b/1.fits': 'b/1', 'b/2.fits': '2'}
    """
    parts = {file: (str(file).rpartition("/")[0], name_of(file)) for file in files}
    folders = Counter(stem for _, stem in set(parts.values()))
    return {
        file: f"{folder}/{stem}" if folder and folders[stem] > 1 else stem
        for file, (folder, stem) in parts.items()
    }
