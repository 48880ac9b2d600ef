"""What kedro-viz opens on, and what `make viz` opens."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from skyloom.pipeline_registry import STUDIES
from skyloom.pipelines.wiring import STAGES


@pytest.fixture(scope="module")
def site(shared_project):
    """Folder of kedro-viz's static site of the project."""
    command = [sys.executable, "-m", "kedro", "viz", "build"]
    subprocess.run(command, cwd=shared_project, check=True, capture_output=True, timeout=240)
    return shared_project / "build"


def boxes_of(site, name):
    """Boxes of a registered pipeline and the pairs of which one feeds the other, as first drawn."""
    view = json.loads((site / "api" / "pipelines" / name).read_text())
    tree = view["modular_pipelines"]
    boxes = {
        child["id"]: tree[child["id"]]
        for child in tree["__root__"]["children"]
        if child["type"] == "modularPipeline"
    }
    pairs = {
        (before, after)
        for before, giver in boxes.items()
        for after, taker in boxes.items()
        if before != after and set(giver["outputs"]) & set(taker["inputs"])
    }
    return boxes, pairs, view


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_opens_on_its_five_stages_in_a_column(site, study):
    boxes, pairs, view = boxes_of(site, study)
    assert set(boxes) == set(STAGES)
    places = {(STAGES.index(before), STAGES.index(after)) for before, after in pairs}
    assert all(before < after for before, after in places)
    # Each stands under the one before it, not beside it.
    assert {(place, place + 1) for place in range(len(STAGES) - 1)} <= places
    assert [layer for layer in view["layers"] if layer in STAGES] == list(STAGES)


@pytest.mark.parametrize("study", STUDIES)
def test_a_click_on_a_stage_opens_its_nodes(site, study):
    boxes, _, view = boxes_of(site, study)
    tasks = {node["id"]: node for node in view["nodes"] if node["type"] == "task"}
    inside = {}
    for stage, box in boxes.items():
        assert {child["type"] for child in box["children"]} <= {"task", "data"}
        inside |= {c["id"]: stage for c in box["children"] if c["type"] == "task"}
    assert set(inside) == set(tasks)
    for key, task in tasks.items():
        assert task["full_name"].startswith(f"{inside[key]}.{study}.")
        assert task["tags"] == [inside[key]]


def test_the_first_view_is_that_of_the_default_pipeline_with_its_simulation_on_top(site):
    assert json.loads((site / "api" / "main").read_text())["selected_pipeline"] == "__default__"
    boxes, pairs, _ = boxes_of(site, "__default__")
    assert set(boxes) == {"simulation", *STAGES}
    assert {after for before, after in pairs if before == "simulation"} == {"ingestion"}
    assert "simulation" not in {after for _, after in pairs}


def test_make_viz_opens_the_boxes_without_an_address_to_type(root, tmp_path):
    """A browser that writes down what it is asked for takes the place of the user's."""
    command = ["make", "--dry-run", "viz", "PYTHON=python3"]
    recipe = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    (browser,) = re.findall(r"^BROWSER=(.*) \S+/kedro viz run$", recipe, re.MULTILINE)
    (browser,) = shlex.split(browser.replace("$BROWSER", f"{tmp_path}/browser"))
    recorder = tmp_path / "browser"
    recorder.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/asked\n')
    recorder.chmod(0o755)
    browser = browser.replace(".venv/bin/python", sys.executable)
    subprocess.run(
        [sys.executable, "-c", "import webbrowser; webbrowser.open_new('http://127.0.0.1:4141/')"],
        env={**os.environ, "BROWSER": browser}, check=True,
    )  # fmt: skip
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == "http://127.0.0.1:4141/?pid=hi_profiles&types=nodes"
