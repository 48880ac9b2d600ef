"""What all models of parameters are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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
