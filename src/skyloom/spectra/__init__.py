"""Spectra: 21-cm lines of galaxies (`hi`), and the optical range (`optical`)."""
