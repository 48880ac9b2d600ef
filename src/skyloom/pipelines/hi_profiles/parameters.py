"""Every parameter of the HI-profile study, with its unit, bounds and default."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from skyloom.learning import configurations, parameters
from skyloom.learning.configurations import variant_name
from skyloom.learning.parameters import Parameters, Positive, Seed, Seeds, Share
from skyloom.spectra.hi.preparation import DEFAULT_WIDTH_RANGE


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
    sheet_spectra: int = Field(
        240, ge=0, description="largest number of whole spectra on the contact sheets"
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
    weak_snr: Positive = Field(
        6.0, description="from here to min_snr a spectrum is refused as a weak detection"
    )
    max_flux: Positive = Field(1e5, description="mJy; a typical flux above is uncalibrated")
    width_range: tuple[Positive, Positive] = Field(
        DEFAULT_WIDTH_RANGE, description="of a line, km/s"
    )
    min_contrast: float = Field(
        6.0, ge=0, description="line flux over the scatter of equal boxes in its neighbourhood"
    )
    min_edge_steepness: float = Field(
        0.25, ge=0, le=2, description="step across the edges within 60 km/s over the mean line flux"
    )
    max_trough: Share = Field(
        0.25, description="negative flux beside a line as a share of the line's"
    )
    masked_velocities: tuple[float, float] | None = Field(
        None, description="not to be used, e.g. Galactic hydrogen, km/s"
    )
    interference_frequencies: tuple[Positive, ...] = Field(
        (), description="carriers of known transmitters, MHz: a feature there is no line"
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
    seeds: Seeds = Field((0,), description="one cross-validation for each")
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


class PredictionParameters(parameters.PredictionParameters):
    """Classifying new spectra with a finished network."""


class Configuration(configurations.Configuration):
    """One configuration of a sweep: everything a fit depends on but the data and the split."""

    swept: ClassVar[dict[str, tuple[str, ...]]] = {
        "features": ("rendering", "size", "quadrant", "extent"),
        "augmentation": (
            "n_copies", "exchange_sides", "min_snr_factor", "fold_jitter", "balance_classes",
        ),
        "network": tuple(NetworkParameters.model_fields),
        "training": tuple(TrainingParameters.model_fields),
    }  # fmt: skip

    features: FeatureParameters
    augmentation: AugmentationParameters
    network: NetworkParameters
    training: TrainingParameters

    @property
    def variant(self) -> str:
        """Name of the images and of the copies it needs."""
        copies = self.swept_values("augmentation")
        del copies["balance_classes"]  # chooses among copies, and changes none
        return variant_name(self.features.size, [self.swept_values("features"), copies])

    @property
    def pretrained_name(self) -> str:
        """Name of the pre-trained network it starts from."""
        text = json.dumps([self.input_variant, self.swept_values("network")], sort_keys=True)
        return f"{self.network.architecture}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class SweepParameters(configurations.SweepParameters):
    """Which configurations are compared, and what the comparison costs."""

    configuration: ClassVar[type[configurations.Configuration]] = Configuration


SweepsParameters = configurations.NamedSweeps[SweepParameters]


class Sweep(configurations.Sweep):
    """A sweep laid out: what is compared, and the images and networks that it needs."""

    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters

    @property
    def variants(self) -> dict[str, Configuration]:
        """One configuration for each distinct set of images and copies."""
        return self.one_of_each("variant")

    @property
    def pretrained(self) -> dict[str, Configuration]:
        """One for each network that is pre-trained."""
        # Not one_of_each: configurations from scratch have the name of a network, too.
        networks: dict[str, Configuration] = {}
        for member in self.members:
            if member.training.start != "scratch":
                networks.setdefault(member.pretrained_name, member)
        return networks
