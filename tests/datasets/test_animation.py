"""Films of a training."""

import numpy as np
import pytest
from kedro.io import DatasetError

from skyloom.datasets import AnimationDataset


def test_a_film_has_its_frames_in_order(tmp_path):
    dataset = AnimationDataset(filepath=str(tmp_path / "film.gif"))
    frames = [np.full((8, 12), value) for value in (0.0, 0.4, 1.0)]
    frames[1][2, 3] = 1.0
    dataset.save(frames)
    found = dataset.load()
    assert [frame.shape for frame in found] == [(8, 12)] * 3
    assert [int(frame[0, 0]) for frame in found] == [0, 102, 255]
    assert found[1][2, 3] == 255


def test_a_film_without_frames_is_refused_and_leaves_the_old_one(tmp_path):
    dataset = AnimationDataset(filepath=str(tmp_path / "film.gif"))
    dataset.save([np.zeros((4, 4))])
    with pytest.raises(DatasetError, match="a film needs a frame"):
        dataset.save([])
    assert len(dataset.load()) == 1
