"""Megapixels a second and peak memory of finding stars, reading out included.

``python benchmarks/star_fields_speed.py 4096`` makes an image of that many pixels on a side, with
six thousand stars a megapixel of which a tenth can be found, and finds its stars with an untrained
network's cost: a threshold of the filter stands in for what it says, so that the read-out has as
much to do as on the sky.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from skyloom.evaluation.detection import Ranking
from skyloom.images.sky import read_sky_image
from skyloom.nets.unet import small_unet
from skyloom.pipelines.star_fields.features import prepare_images
from skyloom.pipelines.star_fields.parameters import DetectionParameters, FeatureParameters
from skyloom.pipelines.star_fields.prediction import detect_stars
from skyloom.simulate.star_fields import draw_fields, observe_field

_FWHM = 3.0
_SIGMA = _FWHM / 2.355
_TILE = 512


class Filtered:
    """A network that says what it costs, and where the filter finds something."""

    def __init__(self) -> None:
        self.network = small_unet(seed=0)

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """As of a Keras model."""
        said = self.network.predict_on_batch(images)
        smooth = ndimage.gaussian_filter(np.sinh(images[0, ..., 0]), _SIGMA)
        snr = smooth * 2 * np.sqrt(np.pi) * _SIGMA
        # Untrained it says hardly anything: the cost is its own, the stars are the filter's.
        return 0 * said + np.clip((snr - 3) / 4, 0, 1)[None, ..., None]


def write_mosaic(side: int, path: str) -> None:
    """Write a file of one made-up tile again and again, turned."""
    rng = np.random.default_rng(0)
    field = draw_fields(
        1, rng, density_range=(0.6, 0.6), fwhm_range=(_FWHM, _FWHM), photographic_share=0.0
    ).iloc[0]
    tile = observe_field(field, rng, size=_TILE).image
    image = np.empty((side, side), np.float32)
    for y in range(0, side, _TILE):
        for x in range(0, side, _TILE):
            part = image[y : y + _TILE, x : x + _TILE]
            part[...] = np.rot90(tile, (x + y) // _TILE)[: part.shape[0], : part.shape[1]]
    fits.PrimaryHDU(image).writeto(path)


def main() -> None:
    side = int(sys.argv[1])
    network, parameters = Filtered(), DetectionParameters()
    prepare = partial(prepare_images, features=FeatureParameters())
    ranking = Ranking("probability", (1.0,), 0.0, 0.5)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        files = {2 * _TILE: f"{folder}/warm.fits", side: f"{folder}/mosaic.fits"}
        for size, path in files.items():
            # Of another process, so that its memory is not counted.
            child = spawn.Process(target=write_mosaic, args=(size, path))
            child.start()
            child.join()
        for path in files.values():
            start, process = time.perf_counter(), time.process_time()
            sky = read_sky_image(path, Path(path).read_bytes())
            stars, _ = detect_stars(network, sky, prepare, ranking, parameters, (2.0, 5.0))
    wall, cores = time.perf_counter() - start, time.process_time() - process
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{side} x {side}: {len(stars)} stars, {side**2 / 1e6 / wall:.2f} Mpx/s, "
        f"{side**2 / 1e6 / cores:.2f} Mpx a second of one core, peak memory {peak:.2f} GB"
    )


if __name__ == "__main__":
    main()
