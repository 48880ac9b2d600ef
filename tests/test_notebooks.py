import nbformat
import pytest
from nbclient import NotebookClient


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hi_profiles", ["good chi-square", "a_flux"]),
        ("star_fields", ["more matches than by chance", "average precision", "stars put in"]),
    ],
)
def test_a_notebook_follows_one_observation_through_the_stages(root, tmp_path, name, words):
    notebook = nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert all(word in text for word in words)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
