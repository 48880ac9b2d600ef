"""Keras architectures, one function per network."""
