"""Every parameter of the HI-profile study, with its unit, bounds and default."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from skyloom.spectra.preparation import DEFAULT_WIDTH_RANGE

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Parameters(BaseModel):
    """Base of all parameter models: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SimulationParameters(Parameters):
    """A made-up sample with known truth."""

    seed: int = Field(0, ge=0, description="everything random in the sample follows from it")
    n_profiles: int = Field(318, ge=1)
    shape_shares: tuple[Share, Share, Share] = Field(
        (0.352, 0.269, 0.379), description="single-peaked, flat-topped, double-horned"
    )
    a_flux_sigma: Positive = Field(0.13, description="half-Gaussian of A_flux - 1")
    tail_fraction: Share = Field(0.05, description="share of profiles in the wider tail")
    tail_sigma: Positive = 0.45
    snr_median: Positive = Field(40.0, description="integrated signal-to-noise ratio")
    snr_scatter: float = Field(0.6, ge=0, description="e-folds")
    width_median: Positive = Field(280.0, description="W20, km/s")
    width_scatter: float = Field(0.35, ge=0, description="e-folds")
    velocity_range: tuple[float, float] = Field((1500.0, 12000.0), description="km/s")
    channel_width: Positive = Field(5.0, description="km/s")
    n_channels: int = Field(512, ge=128)
    ripple: float = Field(0.1, ge=0, description="baseline ripple in units of the channel noise")
    interference_fraction: Share = 0.05
    class_by: Literal["channel_asymmetry", "a_flux", "asymmetry_distance"] = Field(
        "channel_asymmetry",
        description="noiseless index that defines the classes; the distance at which the sides "
        "differ is no function of the indices",
    )
    class_shares: tuple[Share, ...] | None = Field(
        (0.5, 0.3, 0.2), description="symmetric, slightly, strongly lopsided; two for two classes"
    )
    class_edges: tuple[Positive, ...] | None = Field(
        None, description="limits of the index between classes, in place of shares"
    )

    @model_validator(mode="after")
    def _one_class_definition(self):
        if (self.class_shares is None) == (self.class_edges is None):
            msg = "give either class_shares or class_edges, and null for the other"
            raise ValueError(msg)
        if self.class_edges is not None and list(self.class_edges) != sorted(set(self.class_edges)):
            msg = f"class_edges must increase, got {self.class_edges}"
            raise ValueError(msg)
        if self.velocity_range[0] > self.velocity_range[1]:
            msg = f"velocity_range must ascend, got {self.velocity_range}"
            raise ValueError(msg)
        return self


class IngestionParameters(Parameters):
    """Reading files and preparing spectra."""

    id_pattern: str | None = Field(
        None,
        description="regular expression whose group 1 is the catalogue number in the file name; "
        "null: the file name without its ending is the id",
    )
    id_format: str = Field("CIG{:06d}", description="id from the catalogue number")
    index_range: tuple[int, int] | None = Field(
        None, description="first and last catalogue number to use, both included"
    )
    label_id_column: str = Field(
        "cig", description="column of the label table with the id or number"
    )
    label_class_column: str = "Class"
    label_velocity_column: str | None = Field(
        None, description="column with the systemic velocity in km/s"
    )
    classes: tuple[int, ...] | None = Field(
        None, description="classes of the label table to use, in order; null: all"
    )
    velocity_unit: str = Field("km/s", description="where a file states none")
    flux_unit: str = Field("mJy", description="where a file states none")
    resolution: Positive = Field(5.0, description="channel width after averaging, km/s")
    min_channels: int = Field(32, ge=16)
    max_channels: int = Field(256, ge=64, description="length of the cut-out around the line")
    baseline_order: int = Field(3, ge=0, le=10)
    min_snr: Positive = Field(6.5, description="integrated signal-to-noise ratio of a detection")
    max_flux: Positive = Field(1e5, description="mJy; a typical flux above is uncalibrated")
    width_range: tuple[Positive, Positive] = Field(
        DEFAULT_WIDTH_RANGE, description="of a line, km/s"
    )
    min_contrast: float = Field(
        6.0, ge=0, description="line flux over the scatter of equal boxes elsewhere"
    )
    min_edge_steepness: float = Field(
        0.25, ge=0, le=2, description="step across the edges within 60 km/s over the mean line flux"
    )
    masked_velocities: tuple[float, float] | None = Field(
        None, description="not to be used, e.g. Galactic hydrogen, km/s"
    )
    search_radius: Positive = Field(300.0, description="about a known systemic velocity, km/s")

    @field_validator("id_pattern")
    @classmethod
    def _pattern_has_a_group(cls, value):
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                msg = f"id_pattern is no regular expression: {error}"
                raise ValueError(msg) from error
            if groups < 1:
                msg = f"id_pattern needs a group for the catalogue number, got {value!r}"
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _ranges_ascend(self):
        for name in ("index_range", "width_range", "masked_velocities"):
            value = getattr(self, name)
            if value is not None and value[0] > value[1]:
                msg = f"{name} must ascend, got {value}"
                raise ValueError(msg)
        return self


class FeatureParameters(Parameters):
    """Fits, asymmetries and ring images."""

    max_reduced_chi_square: Positive = Field(
        2.5, description="above it the busy function does not describe the line"
    )
    n_realisations: int = Field(32, ge=8, description="noise realisations for the errors")
    seed: int = Field(0, ge=0, description="of those realisations")
    rendering: Literal["corrected", "published"] = "corrected"
    size: int = Field(32, ge=8, le=512, description="pixels on a side of the network's input")
    quadrant: bool = Field(True, description="one quadrant only")
    extent: Positive = Field(
        1.3, description="velocity at the image's edge in units of half of W20 (corrected)"
    )
    published_jpegs: bool = Field(False, description="also write the published JPEGs")
    n_halves_figures: int | None = Field(
        12, ge=0, description="figures of the right, left and combined halves; null: every galaxy"
    )
    panel_id: str | None = Field(None, description="galaxy of the detailed panel; null: the first")
    figure_galaxies: int = Field(324, ge=1, description="largest number on a page of all galaxies")


class AugmentationParameters(Parameters):
    """Classes, split and augmentation of the training part."""

    n_folds: int = Field(5, ge=2, description="outer folds: they report")
    n_inner_folds: int = Field(
        3, ge=2, description="inner folds of each outer one: they stop the training and select"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="one cross-validation for each")
    a_flux_edges: tuple[Positive, ...] = Field(
        (1.13, 1.26), min_length=1, description="classes by measured A_flux where no table is given"
    )
    min_class_probability: Share = Field(
        0.6, description="an A_flux class less certain than this, by its error, is not used"
    )
    n_copies: int = Field(2, ge=0, description="changed copies of each profile, for training only")
    exchange_sides: bool = Field(True, description="mirror half of the copies")
    min_snr_factor: float = Field(
        0.6, gt=0, le=1, description="noise is added down to this fraction of the S/N"
    )
    fold_jitter: float = Field(
        1.0, ge=0, description="scatter of the fold velocity in units of its error"
    )
    seed: int = Field(0, ge=0, description="of the copies")
    balance_classes: bool = Field(
        True, description="every class weighs the same in training, also for the baselines"
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value):
        if len(set(value)) < len(value):
            msg = f"seeds must differ, got {value}"
            raise ValueError(msg)
        return value

    @field_validator("a_flux_edges")
    @classmethod
    def _edges_increase(cls, value):
        if list(value) != sorted(set(value)) or value[0] < 1:
            msg = f"a_flux_edges must increase from 1, got {value}"
            raise ValueError(msg)
        return value


class NetworkParameters(Parameters):
    """Architecture of the network and what of the images it sees."""

    architecture: Literal["ring_cnn", "folded_cnn"] = Field(
        "ring_cnn",
        description="published network on the ring image, or the same layers along its radius, "
        "which holds everything a rotationally symmetric image can",
    )
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128), min_length=1, description="filters of the blocks"
    )
    image_models: tuple[Literal[1, 2, 3], ...] = Field(
        (2,), min_length=1, description="stacked as channels"
    )
    padding: Literal["valid", "same"] = "same"
    input_scale: Positive = Field(
        4.0,
        description="factor on corrected images: differences of the sides are a small part of the "
        "peak, and small inputs learn slowly",
    )


class TrainingParameters(Parameters):
    """Fitting the network."""

    start: Literal["scratch", "frozen", "fine_tuned"] = Field(
        "scratch",
        description="random weights; a pre-trained network under a new last layer; or that with "
        "all of its weights trained further",
    )
    epochs: int = Field(25, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: Positive = Field(1e-3, description="from scratch")
    frozen_learning_rate: Positive = Field(1e-2, description="of a new last layer alone")
    fine_tuned_learning_rate: Positive = Field(
        1e-4, description="of all weights of a pre-trained network"
    )
    weight_decay: float = Field(1e-5, ge=0)
    patience: int | None = Field(
        6, ge=1, description="null: all epochs, last weights, as published"
    )
    min_epochs: int = Field(
        10, ge=1, description="before stopping is considered, in a training from scratch"
    )


class PretrainingParameters(Parameters):
    """Teaching a network the shapes of lines on simulated profiles, before any label is seen."""

    n_profiles: int = Field(12000, ge=64)
    seed: Seed = Field(1, description="of the simulated profiles and of the training")
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: Positive = Field(1e-3, description="falls to zero along a cosine")


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
    """Which configurations are compared, and what the comparison costs."""

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
        for name, values in (self.grid or self.search.space).items():
            field = _field_of(name)
            chosen = [values.low, values.high] if isinstance(values, SearchAxis) else values
            if isinstance(values, SearchAxis) and not name.startswith("training."):
                msg = (
                    f"{name}: images are drawn and networks pre-trained beforehand, so give a "
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


class AuditParameters(Parameters):
    """The published protocol, run to show what it gives; without test sizes it is not run."""

    test_sizes: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    split_seeds: tuple[Seed, ...] = (42, 99)
    epochs: tuple[Annotated[int, Field(ge=1)], ...] = (50, 80, 120)
    widths: tuple[tuple[Annotated[int, Field(ge=1)], ...], ...] = ((32, 64, 128),)
    n_shuffles: int = Field(1000, ge=20, description="shuffles of the classes for the null")
    seed: Seed = Field(0, description="of the random training labels and the shuffles")


class ReportingParameters(Parameters):
    """Scores and report."""

    seed: int = Field(0, ge=0, description="of the permutation tests")
    class_names: tuple[str, ...] = Field(
        ("symmetric", "slightly lopsided", "strongly lopsided"),
        description="by class number; numbers are shown beyond them",
    )
    n_sample_images: int = Field(12, ge=1, description="images in the grid of examples")


_SWEPT = {
    "features": (FeatureParameters, ("rendering", "size", "quadrant", "extent")),
    "augmentation": (
        AugmentationParameters,
        ("n_copies", "exchange_sides", "min_snr_factor", "fold_jitter", "balance_classes"),
    ),
    "network": (NetworkParameters, tuple(NetworkParameters.model_fields)),
    "training": (TrainingParameters, tuple(TrainingParameters.model_fields)),
}


def _field_of(name: str) -> TypeAdapter:
    """Validator of one parameter that a sweep may vary.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    section, _, field = name.partition(".")
    model, fields = _SWEPT.get(section, (None, ()))
    if field not in fields:
        known = [f"{key}.{f}" for key, (_, names) in _SWEPT.items() for f in names]
        msg = f"{name!r} is not a parameter of a sweep; those are {known}"
        raise ValueError(msg)
    info = model.model_fields[field]
    return TypeAdapter(Annotated[info.annotation, info])


class Configuration(Parameters):
    """One configuration of a sweep: everything a fit depends on but the data and the split."""

    name: str
    features: FeatureParameters
    augmentation: AugmentationParameters
    network: NetworkParameters
    training: TrainingParameters

    def changed(self, name: str, values: dict[str, Any]) -> Configuration:
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
        return Configuration.model_validate(content)

    @property
    def image_variant(self) -> str:
        """Name of the images it needs; configurations with equal images share it."""
        return _variant_name(self.features.size, self._swept("features"))

    @property
    def variant(self) -> str:
        """Name of the images and of the copies it needs."""
        copies = self._swept("augmentation")
        del copies["balance_classes"]  # chooses among copies, and changes none
        return _variant_name(self.features.size, [self._swept("features"), copies])

    @property
    def pretrained_name(self) -> str:
        """Name of the pre-trained network it starts from."""
        text = json.dumps([self.image_variant, self._swept("network")], sort_keys=True)
        return f"{self.network.architecture}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def family(self) -> str:
        """Equal for configurations that differ only in their number of epochs."""
        return self.model_copy(
            update={
                "name": "",
                "training": self.training.model_copy(update={"epochs": 1}),
            }
        ).model_dump_json()

    def _swept(self, section: str) -> dict[str, Any]:
        return {name: getattr(getattr(self, section), name) for name in _SWEPT[section][1]}


def _variant_name(size: int, content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return f"{size}px-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Sweep(Parameters):
    """A sweep laid out: what is compared, and the images that it needs.

    Attributes
    ----------
    base : Configuration
        Values of what is not varied.
    configurations : tuple of Configuration
        Of a grid; empty for a search.
    variants : dict of str to Configuration
        One configuration for each distinct set of images and copies.
    pretrained : dict of str to Configuration
        One for each network that is pre-trained.
    parameters : SweepParameters
        ``hi_profiles.sweep``.
    """

    base: Configuration
    configurations: tuple[Configuration, ...]
    variants: dict[str, Configuration]
    pretrained: dict[str, Configuration]
    parameters: SweepParameters

    @classmethod
    def plan(cls, parameters: SweepParameters, base: Configuration) -> Sweep:
        """Lay out a grid or a search.

        Parameters
        ----------
        parameters : SweepParameters
            ``hi_profiles.sweep``.
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
        if parameters.search is None:
            members = configurations = _every_combination(base, parameters.grid)
        else:
            # What is listed can be laid out: images, copies and pre-trained networks.
            listed = {
                name: values
                for name, values in parameters.search.space.items()
                if not isinstance(values, SearchAxis)
            }
            configurations, members = [], _every_combination(base, listed)
        variants, pretrained = {}, {}
        for member in members:
            variants.setdefault(member.variant, member)
            if member.training.start != "scratch":
                pretrained.setdefault(member.pretrained_name, member)
        return cls(
            base=base,
            configurations=configurations,
            variants=variants,
            pretrained=pretrained,
            parameters=parameters,
        )

    @property
    def image_variants(self) -> dict[str, Configuration]:
        """One configuration for each distinct set of images."""
        members = {}
        for member in self.variants.values():
            members.setdefault(member.image_variant, member)
        return members

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
                kind = _SWEPT[section][0].model_fields[field].annotation
                options = {"log": axis.log, "step": axis.step}
                if int in (kind, *get_args(kind)):
                    options["step"] = int(axis.step or 1)
                    values[key] = trial.suggest_int(key, int(axis.low), int(axis.high), **options)
                else:
                    values[key] = trial.suggest_float(key, axis.low, axis.high, **options)
            else:
                # Optuna keeps plain values only; lists are chosen by their number.
                values[key] = axis[trial.suggest_categorical(key, list(range(len(axis))))]
        return self.base.changed(_name_with(name, values, values), values)


def _every_combination(base: Configuration, axes: dict[str, list[Any]]) -> list[Configuration]:
    """Configurations of a grid, named by number and by the values that vary."""
    varied = [key for key, values in axes.items() if len(values) > 1]
    combinations = [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]
    return [
        base.changed(_name_with(f"{number:02d}", values, varied), values)
        for number, values in enumerate(combinations, 1)
    ]


def _name_with(number: str, values: dict[str, Any], shown: Iterable[str]) -> str:
    """Number and values in words; MLflow's plots show the first ten characters."""
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
