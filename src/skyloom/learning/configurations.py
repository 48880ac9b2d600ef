"""Configurations of a study and how a sweep lays them out, checked before anything runs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar, get_args

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from skyloom.learning.parameters import Parameters, Seed


class Configuration(Parameters):
    """One configuration of a sweep: everything a fit depends on but the data and the split.

    A study's own has a field for each section of its parameters, ``features``, ``augmentation``,
    ``network`` and ``training`` among them.

    Attributes
    ----------
    swept : dict of str to tuple of str
        By section, the parameters that a sweep may vary.
    ranged : tuple of str
        Sections whose parameters may be drawn from a range: nothing is prepared for each value.
    """

    swept: ClassVar[dict[str, tuple[str, ...]]] = {}
    ranged: ClassVar[tuple[str, ...]] = ("training",)

    name: str

    @classmethod
    def axis(cls, name: str) -> TypeAdapter:
        """Validator of one parameter that a sweep may vary.

        Parameters
        ----------
        name : str
            As ``network.widths``.

        Returns
        -------
        pydantic.TypeAdapter

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        section, _, field = name.partition(".")
        if field not in cls.swept.get(section, ()):
            known = [f"{key}.{field}" for key, names in cls.swept.items() for field in names]
            msg = f"{name!r} is not a parameter of a sweep; those are {known}"
            raise ValueError(msg)
        info = cls.model_fields[section].annotation.model_fields[field]
        return TypeAdapter(Annotated[info.annotation, info])

    def changed(self, name: str, values: dict[str, Any]) -> Self:
        """The same with other values.

        Parameters
        ----------
        name : str
            Of the new configuration.
        values : dict of str to value
            By parameter, as ``network.widths``.

        Returns
        -------
        Configuration

        Raises
        ------
        pydantic.ValidationError
            If a value is impossible, or values do not go together.
        """
        content = self.model_dump()
        content["name"] = name
        for key, value in values.items():
            section, _, field = key.partition(".")
            content[section][field] = value
        return type(self).model_validate(content)

    @property
    def size(self) -> int:
        """Pixels on a side of what is fitted: by it workers get their threads."""
        return self.features.size

    @property
    def input_variant(self) -> str:
        """Name of the inputs it needs; configurations with equal ones share it."""
        return variant_name(self.size, self.swept_values("features"))

    @property
    def family(self) -> str:
        """Equal for configurations that differ only in their number of epochs."""
        return self.model_copy(
            update={
                "name": "",
                "training": self.training.model_copy(update={"epochs": 1}),
            }
        ).model_dump_json()

    def swept_values(self, section: str) -> dict[str, Any]:
        """Values of what a sweep may vary.

        Parameters
        ----------
        section : str
            Of the parameters.

        Returns
        -------
        dict of str to value
        """
        return {name: getattr(getattr(self, section), name) for name in self.swept[section]}


def variant_name(size: int, content: Any) -> str:
    """Name of what is made once for all configurations that agree in some values.

    Parameters
    ----------
    size : int
        Pixels on a side, for the eye.
    content : object
        The values, as JSON can hold them.

    Returns
    -------
    str
        The same on every machine.
    """
    text = json.dumps(content, sort_keys=True)
    return f"{size}px-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class SearchAxis(Parameters):
    """Range of one parameter in a search."""

    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _ascends(self):
        if self.low >= self.high or (self.log and self.low <= 0):
            msg = f"low must be below high, and above 0 with log, got {self.low} and {self.high}"
            raise ValueError(msg)
        if self.log and self.step is not None:
            msg = "give either log or step"
            raise ValueError(msg)
        return self


class SearchParameters(Parameters):
    """Search by Optuna's tree-structured Parzen estimator, anew in every outer fold."""

    n_trials: int = Field(20, ge=1, description="configurations tried in each outer fold")
    n_parallel: int = Field(2, ge=1, description="asked for at a time")
    n_startup: int = Field(8, ge=1, description="drawn at random before the estimator is used")
    prune: bool = Field(
        True, description="stop a configuration whose first inner folds are below the median"
    )
    seed: Seed = 0
    space: dict[str, SearchAxis | list[Any]] = Field(
        min_length=1, description="range or choices by parameter"
    )


class SweepParameters(Parameters):
    """Which configurations are compared, and what the comparison costs.

    Attributes
    ----------
    configuration : type of Configuration
        The study's own.
    """

    configuration: ClassVar[type[Configuration]] = Configuration

    grid: dict[str, list[Any]] | None = Field(
        None,
        description="values by parameter, as network.widths; every combination is one; "
        "null in place of values takes an axis of the base environment away",
    )
    search: SearchParameters | None = Field(None, description="in place of the grid")
    n_permutations: int = Field(
        0, ge=0, description="reruns of the whole procedure on shuffled classes"
    )
    seed: Seed = Field(0, description="of those shuffles and of the initial weights")

    @property
    def axes(self) -> list[str]:
        """What is varied, as ``network.widths``."""
        return sorted(self.grid if self.search is None else self.search.space)

    @field_validator("grid", mode="before")
    @classmethod
    def _without_removed_axes(cls, grid):
        """An environment removes an axis of the base environment by null."""
        return {k: v for k, v in grid.items() if v is not None} if isinstance(grid, dict) else grid

    @model_validator(mode="after")
    def _known_axes(self):
        if (self.grid is None) == (self.search is None):
            msg = "give either grid or search, and null for the other"
            raise ValueError(msg)
        for name, values in (self.search.space if self.grid is None else self.grid).items():
            field, section = self.configuration.axis(name), name.partition(".")[0]
            chosen = [values.low, values.high] if isinstance(values, SearchAxis) else values
            if isinstance(values, SearchAxis) and section not in self.configuration.ranged:
                msg = (
                    f"{name}: inputs are drawn and networks pre-trained beforehand, so give a "
                    "list of values"
                )
                raise ValueError(msg)
            if not chosen:
                msg = f"{name}: no values"
                raise ValueError(msg)
            for value in chosen:
                try:
                    field.validate_python(value)
                except ValidationError as error:
                    msg = f"{name}: {value!r} is not possible: {error.errors()[0]['msg']}"
                    raise ValueError(msg) from error
        return self


AnySweep = TypeVar("AnySweep", bound=SweepParameters)


class FixedClassesSweep(SweepParameters):
    """Sweep of a study that makes synthetic objects of the true classes."""

    @model_validator(mode="after")
    def _no_shuffles(self):
        if self.n_permutations:
            msg = (
                "n_permutations must be 0: synthetic objects are made with the true classes, so "
                "that shuffled ones are no null of the whole procedure"
            )
            raise ValueError(msg)
        return self


class NamedSweeps(Parameters, Generic[AnySweep]):
    """Sweeps by name, of which one is run."""

    chosen: str = Field(description="name of that one")
    named: dict[str, AnySweep] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_there(self):
        if self.chosen not in self.named:
            msg = f"there is no sweep {self.chosen!r}; those are {', '.join(self.named)}"
            raise ValueError(msg)
        return self

    @property
    def parameters(self) -> AnySweep:
        """Of the sweep that is run."""
        return self.named[self.chosen]


class Sweep(Parameters):
    """A sweep laid out: what is compared. A study's own names its own types.

    Attributes
    ----------
    base : Configuration
        Values of what is not varied.
    configurations : tuple of Configuration
        Of a grid; empty for a search.
    parameters : SweepParameters
        Grid or search.
    """

    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters

    @classmethod
    def lay_out(cls, parameters: SweepParameters, base: Configuration) -> Self:
        """Lay out a grid or a search.

        Parameters
        ----------
        parameters : SweepParameters
            Grid or search.
        base : Configuration
            Values of what it does not vary.

        Returns
        -------
        Sweep

        Raises
        ------
        pydantic.ValidationError
            If values of a grid do not go together.
        """
        grid = parameters.grid
        configurations = [] if grid is None else every_combination(base, grid)
        sweep = cls(base=base, configurations=configurations, parameters=parameters)
        _ = sweep.members  # values of a search that do not go together are found here
        return sweep

    @property
    def members(self) -> list[Any]:
        """Configurations for which something is to be prepared.

        Of a search, one for each combination of its listed values: images can be drawn for them.
        """
        if self.parameters.search is None:
            return list(self.configurations)
        listed = {
            name: values
            for name, values in self.parameters.search.space.items()
            if not isinstance(values, SearchAxis)
        }
        return every_combination(self.base, listed)

    def one_of_each(self, attribute: str) -> dict[str, Any]:
        """The first member for each value of an attribute.

        Parameters
        ----------
        attribute : str
            Such as ``input_variant``.

        Returns
        -------
        dict of str to Configuration
        """
        found: dict[str, Any] = {}
        for member in self.members:
            found.setdefault(getattr(member, attribute), member)
        return found

    @property
    def input_variants(self) -> dict[str, Any]:
        """One configuration for each distinct set of inputs."""
        return self.one_of_each("input_variant")

    def suggest(self, trial: Any, name: str) -> Configuration:
        """Configuration of a search from an Optuna trial.

        Parameters
        ----------
        trial : optuna.Trial
            Asked of the study.
        name : str
            Of the configuration.

        Returns
        -------
        Configuration

        Raises
        ------
        pydantic.ValidationError
            If the values do not go together.
        """
        values = {}
        for key, axis in self.parameters.search.space.items():
            if isinstance(axis, SearchAxis):
                section, _, field = key.partition(".")
                section_model = type(self.base).model_fields[section].annotation
                kind = section_model.model_fields[field].annotation
                options = {"log": axis.log, "step": axis.step}
                if int in (kind, *get_args(kind)):
                    options["step"] = int(axis.step or 1)
                    values[key] = trial.suggest_int(key, int(axis.low), int(axis.high), **options)
                else:
                    values[key] = trial.suggest_float(key, axis.low, axis.high, **options)
            else:
                # Optuna keeps plain values only; lists are chosen by their number.
                values[key] = axis[trial.suggest_categorical(key, list(range(len(axis))))]
        return self.base.changed(name_with(name, values, values), values)


def every_combination(base: Configuration, axes: dict[str, list[Any]]) -> list[Configuration]:
    """Configurations of a grid, named by number and by the values that vary.

    Parameters
    ----------
    base : Configuration
        Values of what does not vary.
    axes : dict of str to list
        Values by parameter.

    Returns
    -------
    list of Configuration
    """
    varied = [key for key, values in axes.items() if len(values) > 1]
    combinations = [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]
    return [
        base.changed(name_with(f"{number:02d}", values, varied), values)
        for number, values in enumerate(combinations, 1)
    ]


def name_with(number: str, values: dict[str, Any], shown: Iterable[str]) -> str:
    """Number and values in words; MLflow's plots show the first ten characters.

    Parameters
    ----------
    number : str
        Comes first.
    values : dict of str to value
        By parameter.
    shown : iterable of str
        Which of them.

    Returns
    -------
    str
    """
    parts = []
    for key in shown:
        value, field = values[key], key.partition(".")[2]
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list | tuple):
            parts.append("-".join(map(str, value)))
        elif isinstance(value, bool) or value is None:
            parts.append(f"{field} {value}")
        else:
            parts.append(f"{field} {value:.3g}")
    return ", ".join([number, *parts]).replace(", ", " ", 1)
