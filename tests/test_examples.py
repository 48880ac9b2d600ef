"""Examples of the library's docstrings give what they say."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

# Nothing of these imports TensorFlow.
PACKAGES = ("archives", "evaluation", "images", "raw_files", "simulate", "spectra")
MODULES = [
    module.name
    for package in PACKAGES
    for module in walk_packages(import_module(f"skyloom.{package}").__path__, f"skyloom.{package}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    assert not doctest.testmod(import_module(name)).failed


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_examples(package):
    modules = [import_module(name) for name in MODULES if name.split(".")[1] == package]
    assert any(test.examples for m in modules for test in doctest.DocTestFinder().find(m))
