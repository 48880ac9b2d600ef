"""Speed of the ring images against painting pixel by pixel."""

from __future__ import annotations

import time

import numpy as np

from skyloom.images.rings import paint_rings, painted_radius, render_rings


def paint_pixel_by_pixel(radial):
    """The published loop."""
    length = len(radial)
    image = np.zeros((2 * length, 2 * length))
    for radius in range(length):
        for angle in np.linspace(0, 2 * np.pi, 2 * length):
            row = int(np.rint(length + radius * np.sin(angle)))
            column = int(np.rint(length + radius * np.cos(angle)))
            image[row, column] = radial[radius]
    return image


def seconds(function, repeats: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    n, channels = 256, 496  # the length of the published example
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(n, channels))
    one = np.ones(n)
    full, quarter = flux[0], flux[0][: channels // 4]
    slow = {1: seconds(lambda: paint_pixel_by_pixel(full), 3)}
    slow[2] = slow[3] = seconds(lambda: paint_pixel_by_pixel(quarter), 3)
    mean = sum(slow.values()) / 3
    for size, quadrant in ((128, False), (64, True), (16, True)):
        fast = seconds(
            lambda size=size, quadrant=quadrant: render_rings(
                flux, 0 * one, one, 248 * one, 150 * one, size=size, quadrant=quadrant
            ),
            7,
        ) / (3 * n)
        kind = "quadrant" if quadrant else "whole"
        print(f"corrected, {size} px, {kind}: {mean / fast:.0f} times faster an image")
    for model in (1, 2):
        painted_radius.cache_clear()
        first = seconds(lambda model=model: paint_rings(full, model), 1)
        again = seconds(lambda model=model: paint_rings(full, model), 15)
        print(
            f"published pixels, model {model}: {slow[model] / first:.0f} times faster the first "
            f"time, {slow[model] / again:.0f} times with the geometry known"
        )


if __name__ == "__main__":
    main()
