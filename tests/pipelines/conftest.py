"""Fixtures for tests of the studies' functions."""

import gc
import sys

import pytest


@pytest.fixture(scope="session")
def code_of():
    """Function that names the modules of this package that run while a task does."""

    def modules_of(work, *arguments):
        modules = set()

        def note(frame, event, _):
            if event == "call" and frame.f_code.co_name != "<module>":
                modules.add(frame.f_globals.get("__name__", ""))

        # Generators that another test has left would run as they are collected.
        gc.collect()
        gc.disable()
        sys.setprofile(note)
        try:
            work(*arguments, threads=1)
        finally:
            sys.setprofile(None)
            gc.enable()
        return {name for name in modules if name.partition(".")[0] == "skyloom"}

    return modules_of
