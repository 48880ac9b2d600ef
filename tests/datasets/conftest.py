"""What the tests of the datasets share."""

import base64
from io import BytesIO

import fsspec
import numpy as np
import pytest
from kedro_viz.models.flowchart.node_metadata import DataNodeMetadata
from kedro_viz.models.flowchart.nodes import GraphNode


@pytest.fixture
def memory():
    """Give an empty `memory://` file system."""
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture
def in_viz():
    """Return a function that gives a dataset's (preview, preview type) as kedro-viz finds them."""

    def in_viz(dataset):
        node = GraphNode.create_data_node(
            dataset_id="d",
            dataset_name="d",
            layer=None,
            tags=set(),
            dataset=dataset,
            modular_pipelines=None,
        )
        metadata = DataNodeMetadata(data_node=node)
        return metadata.preview, metadata.preview_type

    return in_viz


@pytest.fixture
def pixels_of():
    """Return a function that decodes an ImagePreview."""
    from matplotlib.image import imread

    def pixels_of(preview):
        return np.asarray(imread(BytesIO(base64.b64decode(preview)), format="png"))

    return pixels_of
