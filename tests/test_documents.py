"""What the README and the pages say is so: commands, settings, files, names."""

import re
import shlex

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines

from skyloom.pipeline_registry import STUDIES
from skyloom.settings import CONFIG_LOADER_ARGS

NO_REFERENCE = {"pipelines", "pipeline_registry", "settings"}


@pytest.fixture(scope="module")
def documents(root):
    """Text of the README and of each page by name."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return {page.relative_to(root).as_posix(): page.read_text("utf-8") for page in pages}


@pytest.fixture(scope="module")
def registered():
    configure_project("skyloom")
    return dict(pipelines)


def excerpts(documents, language):
    """Every block of code in a language, with the document's name."""
    return [
        (name, block)
        for name, text in documents.items()
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    ]


def parameters(folder, environment="base"):
    return OmegaConfigLoader(str(folder), env=environment, **CONFIG_LOADER_ARGS)["parameters"]


def test_the_readme_is_short(documents):
    assert documents["README.md"].count("\n") <= 160


def test_links_to_files_lead_somewhere(root, documents):
    """The site checks headings and names of the library, too."""
    for name, text in documents.items():
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert ((root / name).parent / target).is_file(), f"{name}: {target}"


def test_every_command_of_make_is_one(root, documents):
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    said = {name for text in documents.values() for name in re.findall(r"`make (\w+)`", text)}
    for _, block in excerpts(documents, "sh"):
        said |= set(re.findall(r"^make (\w+)", block, re.MULTILINE))
    assert {"run", "test", "docs"} <= said <= targets


def test_every_kedro_command_runs_something_that_exists(root, documents, registered):
    configuration = "\n".join(path.read_text() for path in (root / "conf").rglob("*.yml"))
    code = "\n".join(path.read_text() for path in (root / "src").rglob("*.py"))
    short = set(re.findall(r"runtime_params:(\w+)", configuration))
    commands = [
        (name, shlex.split(line.partition(" #")[0])[2:])
        for name, block in excerpts(documents, "sh")
        for line in block.splitlines()
        if line.startswith(".venv/bin/kedro run")
    ]
    assert len(commands) > 20
    for name, words in commands:
        options = dict(zip(words[::2], words[1::2], strict=True))
        assert set(options) <= {"--pipelines", "--env", "--params"}, name
        chosen = options.get("--pipelines", "__default__").split(",")
        assert set(chosen) <= set(registered), f"{name}: {chosen}"
        known = parameters(root / "conf", options.get("--env", "base"))
        for setting in filter(None, options.get("--params", "").split(",")):
            key, _, value = setting.partition("=")
            if key == "sweep":
                study = chosen[0].partition(".")[0]
                assert value in known[study]["sweeps"]["named"], f"{name}: {setting}"
            elif "." in key:
                assert key.partition(".")[0] in known, f"{name}: {setting}"
                field = key.rpartition(".")[2]
                assert re.search(rf"^    {field}: ", code, re.MULTILINE), f"{name}: {setting}"
            else:
                assert key in short, f"{name}: {setting}"


def test_a_study_s_page_describes_its_sweeps(root, documents):
    for study in STUDIES:
        page = documents[f"docs/{study}.md"]
        section = page[page.index("\n## Sweeps") :]
        named = set(parameters(root / "conf")[study]["sweeps"]["named"])
        named |= set(parameters(root / "conf", "real")[study]["sweeps"]["named"])
        said = set(re.findall(r"`(\w+)`", re.sub(r"```.*?```", "", section, flags=re.DOTALL)))
        assert named <= said, named - said


def test_files_that_the_pages_name_are_in_the_catalog(root, documents):
    places = set()
    for catalog in (root / "conf" / "base").rglob("catalog.yml"):
        for entry in yaml.safe_load(catalog.read_text()).values():
            path = entry.get("filepath") or entry.get("path") or ""
            path = path.replace("${globals:data}", "data")
            path = re.sub(r"\$\{runtime_params:\w+, \"\"\}/", "", path)
            places |= {f"{path.replace('{study}', study)}/" for study in STUDIES}
    for name, text in documents.items():
        for said in re.findall(r"`(data/[^`]*?)/?`", text):
            if not said.endswith("..."):
                path = said.replace("<study>", STUDIES[0]).replace("data/real/", "data/")
                assert any(place.startswith(f"{path}/") for place in places), f"{name}: {said}"


def test_imports_of_the_pages_work(documents):
    for _, block in excerpts(documents, "python"):
        if block.startswith("# src/"):  # a file of a study that another test builds
            continue
        for line in block.splitlines():
            if re.match(r"(import|from) ", line):
                exec(line, {})


def test_the_reference_has_the_whole_library(root, documents):
    library = {path.stem for path in (root / "src" / "skyloom").iterdir() if path.stem[0] != "_"}
    said = set(re.findall(r"^   skyloom\.(\w+)$", documents["docs/api.md"], re.MULTILINE))
    assert said == library - NO_REFERENCE
