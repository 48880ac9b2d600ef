"""One-dimensional science: readers, baselines, busy function, asymmetry."""
