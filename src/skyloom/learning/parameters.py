"""What all models of parameters are made of."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _differ(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        msg = f"seeds must differ, got {seeds}"
        raise ValueError(msg)
    return seeds


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_differ)]


class Parameters(BaseModel):
    """Base of all parameter models: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PredictionParameters(Parameters):
    """Classifying new objects with a finished network.

    Attributes
    ----------
    classes : tuple of str
        Those there can be; empty where only the classifier knows.
    """

    classes: ClassVar[tuple[str, ...]] = ()

    population: dict[str, Share] | Literal["estimated"] | None = Field(
        None, description="share of each class among the new objects; estimated: from the objects "
        "themselves, by expectation and maximisation; null: those of the training, with which the "
        "success rates were measured (equal ones where it weighed classes alike)",
    )  # fmt: skip

    @field_validator("population")
    @classmethod
    def _shares(cls, population):
        if isinstance(population, dict):
            unknown = sorted(set(population) - set(cls.classes or population))
            if unknown:
                msg = f"population has {unknown}, classes are {list(cls.classes)}"
                raise ValueError(msg)
            total = sum(population.values())
            if abs(total - 1) > 1e-3:
                msg = f"shares of the population must add up to 1, got {total:g}"
                raise ValueError(msg)
        return population
