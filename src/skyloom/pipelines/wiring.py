"""What the pipelines of all studies have in common: steps, stages, and the side pipelines."""

from collections.abc import Callable, Iterable

from kedro.pipeline import Node, Pipeline

STAGES = ("ingestion", "features", "augmentation", "training", "reporting")
# What a comparison and a final network leave behind, in the order in which a node gives it.
COMPARISON = (
    "network_predictions inner_scores learning_curves permutations validation_predictions outcome"
)
CLASSIFIER = "classifier classifier_description classifier_example"
# Parameters of the command line and of the whole project; all others are a study's own.
SHARED_PARAMETERS = frozenset({"params:cluster", "params:folder", "params:sources"})


def step(function: Callable, inputs: str, outputs: str, *, by_name: bool = False) -> Node:
    """Node named after its function.

    Parameters
    ----------
    function : callable
        Its arguments bear the names of their entries: ``features`` that of ``params:features``,
        ``observations`` that of ``observations@files``.
    inputs, outputs : str
        Catalog entries, blanks between them.
    by_name : bool
        The function gives a dict of its outputs by name, as is better where there are many.

    Returns
    -------
    kedro.pipeline.Node
    """
    made = outputs.split()
    return Node(
        function,
        inputs={_argument(entry): entry for entry in inputs.split()},
        outputs={entry: entry for entry in made}
        if by_name
        else made[0]
        if len(made) == 1
        else made,
        name=function.__name__,
    )


def _argument(entry: str) -> str:
    return entry.removeprefix("params:").partition("@")[0]


def study(name: str, stages: dict[str, list[Node]]) -> Pipeline:
    """The stages of a study.

    Parameters
    ----------
    name : str
        Of the study; it comes before the names of its entries, parameters and nodes.
    stages : dict of str to list of kedro.pipeline.Node
        From `step`, by stage. Each node is tagged with its stage.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    parts = [Pipeline(steps, tags=[stage]) for stage, steps in stages.items()]
    whole = sum(parts, Pipeline([]))
    return Pipeline(whole, namespace=name, parameters=SHARED_PARAMETERS & whole.inputs())


def side_pipeline(
    study: str, part: str, steps: Iterable[Node], *, inputs: Iterable[str] = ()
) -> Pipeline:
    """What a study can do beside its five stages, such as prediction or download.

    Parameters
    ----------
    study, part : str
        Its entries and nodes are called ``<study>.<part>.<name>``.
    steps : iterable of kedro.pipeline.Node
        From `step`.
    inputs : iterable of str
        Entries that it takes from the study.

    Returns
    -------
    kedro.pipeline.Pipeline
        Its parameters are the study's.
    """
    whole = Pipeline(steps, tags=[part])
    asked = {entry for entry in whole.inputs() if entry.startswith("params:")}
    return Pipeline(
        whole,
        namespace=f"{study}.{part}",
        inputs={entry: f"{study}.{entry}" for entry in inputs},
        parameters={
            entry: entry
            if entry in SHARED_PARAMETERS
            else f"params:{study}.{entry.removeprefix('params:')}"
            for entry in asked
        },
    )


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
                step(simulate_truth, "params:simulation", "truth labels"),
                step(simulate_observations, "truth params:simulation", "observations@fits"),
            ]
        },
    )
