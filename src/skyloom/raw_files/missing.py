"""Numbers in files that stand for none."""

from __future__ import annotations

import numpy as np

_LARGEST = 1e30  # what old packages write where nothing was observed is beyond it
_SENTINELS = (-999.0, -9999.0, -99.0, -32768.0, 999.0, 9999.0, 99999.0)
_FEWEST = 8  # neighbours of one value: noise does not repeat itself


def without_missing(values: np.ndarray) -> np.ndarray:
    """Values with NaN in place of what stands for none.

    Parameters
    ----------
    values : numpy.ndarray
        As in the file, before any conversion.

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

    values = np.asarray(values, float)
    with np.errstate(invalid="ignore"):
        missing = ~(np.abs(values) < _LARGEST)
    for sentinel in _SENTINELS:
        same = values == sentinel
        if same.any():
            blocks, n_blocks = ndimage.label(same)
            sizes = np.bincount(blocks.ravel(), minlength=n_blocks + 1)
            sizes[0] = 0
            missing |= sizes[blocks] >= _FEWEST
    return np.where(missing, np.nan, values)
