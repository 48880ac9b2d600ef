"""Optical spectra: readers, common grids, spectral types, line indices, star tables."""
