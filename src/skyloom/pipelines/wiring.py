"""What the pipelines of all studies have in common: steps, stages, and the side pipelines."""

import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kedro.pipeline import Node, Pipeline

STAGES = ("ingestion", "features", "augmentation", "training", "reporting")
# What a comparison and a final network leave behind, in the order in which a node gives it.
COMPARISON = (
    "network_predictions inner_scores learning_curves permutations validation_predictions outcome"
)
CLASSIFIER = "classifier classifier_description classifier_example"
# Parameters of the command line and of the whole project; all others are a study's own.
SHARED_PARAMETERS = frozenset({"params:cluster", "params:folder", "params:sources"})


class Step(NamedTuple):
    """A node function and its entries, without the name of the study.

    Attributes
    ----------
    function : callable
        Its arguments bear the names of their entries: ``features`` that of ``params:features``,
        ``observations`` that of ``observations@files``.
    inputs, outputs : str
        Catalog entries, blanks between them.
    by_name : bool
        The function gives a dict of its outputs by name, as is better where there are many.
    """

    function: Callable
    inputs: str
    outputs: str
    by_name: bool = False


def study(name: str, stages: dict[str, list[Step]]) -> Pipeline:
    """The stages of a study.

    Parameters
    ----------
    name : str
        Of the study; it comes before the names of its entries and parameters.
    stages : dict of str to list of Step
        By stage.

    Returns
    -------
    kedro.pipeline.Pipeline
        A node is called ``<stage>.<study>.<function>`` and tagged with its stage. The stage is its
        namespace, so that kedro-viz draws the stages as boxes.
    """
    return _pipeline(
        _node(step, name, stage, lambda entry: f"{name}.{entry}")
        for stage, steps in stages.items()
        for step in steps
    )


def side_pipeline(
    study: str, part: str, steps: Iterable[Step], *, inputs: Iterable[str] = ()
) -> Pipeline:
    """What a study can do beside its five stages, such as prediction or download.

    Parameters
    ----------
    study, part : str
        Its entries are called ``<study>.<part>.<name>``; its parameters are the study's.
    steps : iterable of Step
    inputs : iterable of str
        Entries that it takes from the study.

    Returns
    -------
    kedro.pipeline.Pipeline
        Nodes are called ``<part>.<study>.<function>``.
    """

    def place(entry):
        return f"{study}.{entry}" if entry in inputs else f"{study}.{part}.{entry}"

    return _pipeline(_node(step, study, part, place) for step in steps)


def simulation(name: str, simulate_truth: Callable, simulate_observations: Callable) -> Pipeline:
    """A made-up sample, written as a telescope or an archive would.

    Parameters
    ----------
    name : str
        Of the study.
    simulate_truth, simulate_observations : callable
        Node functions: of the parameters, and of the truth and the parameters.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return study(
        name,
        {
            "simulation": [
                Step(simulate_truth, "params:simulation", "truth labels"),
                Step(simulate_observations, "truth params:simulation", "observations@fits"),
            ]
        },
    )


def _node(step: Step, study: str, stage: str, place: Callable[[str], str]) -> Node:
    def full(entry):
        if entry in SHARED_PARAMETERS:
            return entry
        if entry.startswith("params:"):
            return f"params:{study}.{entry.removeprefix('params:')}"
        return place(entry)

    outputs = {entry: full(entry) for entry in step.outputs.split()}
    # Kedro takes a list of one output for a function that gives a list.
    in_order = list(outputs.values()) if len(outputs) > 1 else next(iter(outputs.values()))
    return Node(
        step.function,
        inputs={_argument(entry): full(entry) for entry in step.inputs.split()},
        outputs=outputs if step.by_name else in_order,
        name=f"{study}.{step.function.__name__}",
        namespace=stage,
        tags=[stage],
    )


def _argument(entry: str) -> str:
    return entry.removeprefix("params:").partition("@")[0]


def _pipeline(nodes: Iterable[Node]) -> Pipeline:
    with warnings.catch_warnings():
        # Kedro says once that entries should begin with the namespace of their node. Ours begin
        # with the study: boxes of studies would hide the stages.
        warnings.filterwarnings("ignore", "One or more dataset names contain '.'", UserWarning)
        return Pipeline(list(nodes))
