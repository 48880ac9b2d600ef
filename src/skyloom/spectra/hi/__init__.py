"""Integrated 21-cm spectra: readers, line profiles, busy function, asymmetry."""
