"""How the pipelines name and tag their nodes."""

from collections.abc import Callable

from kedro.pipeline import Node

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
