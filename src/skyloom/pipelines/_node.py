"""How the pipelines name and tag their nodes."""

import warnings
from collections.abc import Callable

from kedro.pipeline import Node, Pipeline

STAGES = ("ingestion", "features", "augmentation", "training", "reporting")


def stage_node(function: Callable, inputs: list[str], outputs: list[str], stage: str) -> Node:
    """Node named after its function and tagged with its stage.

    Parameters
    ----------
    function : callable
        Of the node.
    inputs, outputs : list of str
        Catalog entries.
    stage : str
        One of `STAGES`, ``simulation`` or ``prediction``.

    Returns
    -------
    kedro.pipeline.Node
    """
    return Node(
        function,
        inputs=inputs,
        outputs=outputs[0] if len(outputs) == 1 else outputs,
        name=function.__name__,
        tags=[stage],
    )


def by_stage(pipeline: Pipeline) -> Pipeline:
    """The same pipeline with its stages as namespaces, which kedro-viz draws as boxes.

    Parameters
    ----------
    pipeline : kedro.pipeline.Pipeline
        Each node has one tag, its stage, and a namespace that begins with its study.

    Returns
    -------
    kedro.pipeline.Pipeline
        Entries keep their names; a node is called ``<stage>.<study>.<function>``.
    """
    with warnings.catch_warnings():
        # Kedro says once that entries should begin with the namespace of their node. Ours begin
        # with the study: boxes of studies would hide the stages.
        warnings.filterwarnings("ignore", "One or more dataset names contain '.'", UserWarning)
        return Pipeline(
            [
                node._copy(
                    name=f"{node.namespace.partition('.')[0]}.{node.short_name}", namespace=stage
                )
                for node in pipeline.nodes
                for stage in node.tags
            ]
        )
