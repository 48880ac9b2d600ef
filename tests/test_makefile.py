"""Which Python `make` takes, and what it says where none will do."""

import os
import subprocess
import sys
from shutil import which

import pytest

FAKE = """#!/bin/sh
case "$*" in
  --version) echo "Python {version}" ;;
  "-c import ensurepip, venv") exit {no_venv} ;;
  "-c import sys"*) exec {python} -c "$(echo "$2" | sed 's/sys[.]version_info/({numbers})/g')" ;;
  *) echo "$0 $*" >> {log}; exit 1 ;;
esac
"""


@pytest.fixture
def pythons(tmp_path, root):
    """Function: run `make` up to the environment where only these Pythons are installed."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sed", "sh", "mkdir"):
        (commands / name).symlink_to(which(name))
    (tmp_path / "Makefile").write_text((root / "Makefile").read_text())
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
    log = tmp_path / "log"

    def make(versions, *, venv=True, arguments=()):
        for name, version in versions.items():
            path = commands / name
            path.write_text(
                FAKE.format(
                    version=version, numbers=", ".join(version.split(".")[:2]),
                    python=sys.executable, no_venv=int(not venv),
                    log=log,
                )
            )  # fmt: skip
            path.chmod(0o755)
        done = subprocess.run(
            [which("make"), "run", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={key: value for key, value in os.environ.items() if key != "PYTHON"}
            | {"PATH": str(commands)},
        )  # fmt: skip
        return done, log.read_text().split()[0] if log.exists() else None

    return make


@pytest.mark.parametrize("version", ["3.11.2", "3.12.9", "3.13.5"])
def test_python3_is_taken_where_it_is_one_of_those_supported(pythons, version):
    _, used = pythons({"python3": version, "python3.12": "3.12.0"})
    assert used.endswith("/bin/python3")


def test_another_python_is_taken_where_python3_is_too_old(pythons):
    _, used = pythons({"python3": "3.9.18", "python3.12": "3.12.0", "python3.11": "3.11.4"})
    assert used.endswith("/bin/python3.12")


@pytest.mark.parametrize("version", ["3.10.14", "3.14.0", "2.7.18"])
def test_a_python_of_another_version_is_named_with_what_is_needed(pythons, version):
    done, used = pythons({"python3": version})
    assert (done.returncode != 0, used) == (True, None)
    assert f"needs Python 3.11, 3.12 or 3.13, but python3 is Python {version}" in done.stderr
    assert "make run PYTHON=/path/to/python3.12" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_python_that_is_asked_for_is_looked_at_too(pythons):
    versions = {"python3": "3.12.1", "python3.10": "3.10.1"}
    done, used = pythons(versions, arguments=["PYTHON=python3.10"])
    assert used is None
    assert "but python3.10 is Python 3.10.1" in done.stderr


def test_no_python_at_all_is_said(pythons):
    done, _ = pythons({})
    assert "needs Python 3.11, 3.12 or 3.13, but python3 is " in done.stderr
    assert "not found" in done.stderr


def test_a_python_without_venv_names_the_package(pythons):
    done, used = pythons({"python3": "3.13.5"}, venv=False)
    assert used is None
    assert "python3 has no venv module. On Debian and Ubuntu: apt install python3-venv" in (
        done.stderr
    )
