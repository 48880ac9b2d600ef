"""Numbers in files that stand for none."""

from __future__ import annotations

import numpy as np

_LARGEST = 1e30  # what old packages write where nothing was observed is beyond it
_SENTINELS = (
    -999.0, -9999.0, -99.0, -32768.0, 999.0, 9999.0, 99999.0, -99999.0, -999.9, -9999.9, -999.25,
)  # fmt: skip
_PIECE = 4_000_000  # numbers
_FEWEST = 8  # neighbours of one value: noise does not repeat itself


def without_missing(values: np.ndarray, dtype: type = float, *, copy: bool = True) -> np.ndarray:
    """Values with NaN in place of what stands for none.

    Parameters
    ----------
    values : numpy.ndarray
        As in the file, before any conversion.
    dtype : type
        Of the answer.
    copy : bool
        False changes the values themselves where they are of that type: large images have no room
        for another.

    Returns
    -------
    numpy.ndarray of float, same shape
        NaN where the value is not finite or beyond 1e30, and where a block of at least 8
        neighbours is -999, 9999 or another of the numbers that catalogues write for none. A single
        such number may be an observation.

    Examples
    --------
    >>> import numpy as np
    >>> np.isnan(without_missing(np.array([1.0, 1e34, 9999.0] + 9 * [-999.0]))).sum().item()
    10
    """
    from scipy import ndimage

    with np.errstate(over="ignore"):  # what is too large for the type is missing, too
        values = np.array(values, dtype, order="C", copy=True if copy else None)
    flat = values.reshape(-1)
    # Piece by piece: a large image has no room for another beside it.
    pieces = [flat[i : i + _PIECE] for i in range(0, flat.size, _PIECE)]
    for piece in pieces:
        piece[~((piece < _LARGEST) & (piece > -_LARGEST))] = np.nan
    for sentinel in _SENTINELS:
        if any((piece == sentinel).any() for piece in pieces):
            blocks, n_blocks = ndimage.label(values == sentinel)
            sizes = np.bincount(blocks.ravel(), minlength=n_blocks + 1)
            sizes[0] = 0
            values[sizes[blocks] >= _FEWEST] = np.nan
    return values
