"""Every parameter of the study of star fields, with its unit, bounds and default."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from skyloom.archives.sky_survey import SKYVIEW, VIZIER
from skyloom.learning import configurations
from skyloom.learning import fitting as learning
from skyloom.learning.parameters import Parameters, Positive, Seed, Share
from skyloom.learning.splitting import SplitParameters

Range = tuple[Positive, Positive]
Address = Annotated[str, Field(pattern=r"^https?://.")]
Arm = Literal["observed", "simulated", "observed + simulated", "simulated, then observed"]


class FieldParameters(Parameters):
    """Distributions of made-up fields, see `skyloom.simulate.star_fields.draw_fields`."""

    photographic_share: Share = Field(0.5, description="of plates")
    artefact_share: Share = Field(0.5, description="of fields with artefacts")
    density_range: Range = Field((0.5, 12.0), description="stars of S/N above 5 in 1000 pixels")
    fwhm_range: Range = Field((1.8, 5.0), description="of faint stars, pixels")
    beta_range: Range = Field((2.5, 4.5), description="exponent of Moffat's profile")
    count_slope_range: Range = Field((0.22, 0.4), description="d log N / d mag")
    cluster_share: Share = Field(0.3, description="of fields with a star cluster")
    sky_range: Range = Field((30.0, 3000.0), description="electrons in a pixel")
    nebulosity_share: Share = Field(0.25, description="of fields with nebulae")
    galaxy_density: float = Field(0.25, ge=0, description="galaxies by stars that can be found")

    @model_validator(mode="after")
    def _ascend(self):
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and not value[0] <= value[1]:
                msg = f"{name} must ascend, got {value}"
                raise ValueError(msg)
        if self.beta_range[0] <= 1:
            msg = f"beta_range must be above 1, got {self.beta_range}"
            raise ValueError(msg)
        return self


class SimulationParameters(Parameters):
    """Made-up fields, written as a telescope would."""

    seed: Seed = Field(0, description="everything random in the sample follows from it")
    n_fields: int = Field(60, ge=1)
    size: int = Field(160, ge=32, le=4096, description="pixels on a side")
    pixel_scale: Positive = Field(1.0, description="arcsec")
    faintest: Positive = Field(2.0, description="S/N of the faintest stars of the catalogue")
    position_error: float = Field(0.1, ge=0, description="of the catalogue, pixels")
    offset: float = Field(1.0, ge=0, description="of the catalogue from the WCS, pixels")
    fields: FieldParameters = FieldParameters()


class ArchiveParameters(Parameters):
    """Fetching fields: images of SkyView, their stars from VizieR.

    Positions are those of a list; where none is given, they are random.
    """

    n_fields: int = Field(100, ge=1, description="random ones, where no list is given")
    seed: Seed = Field(0, description="of the random positions; more fields begin with the same")
    max_declination: float = Field(
        60.0, gt=0, le=90, description="of random positions, north and south, deg"
    )
    min_galactic_latitude: float = Field(
        10.0, ge=0, le=60, description="of random positions, either sign, deg"
    )
    survey: str = Field("DSS", min_length=1, description="as SkyView calls it")
    size: int = Field(
        1024, ge=32, le=4096, description="pixels on a side; 512 and 1024 are published"
    )
    side: float = Field(
        0.5, gt=0, le=10, description="of the image, deg; published is a radius of 0.25"
    )
    catalogue: str = Field("II/246", min_length=1, description="of VizieR; II/246 is 2MASS")
    magnitude_column: str = Field(
        "Jmag", min_length=1, description="of the catalogue, mag; it sets the discs of the mask"
    )
    catalogue_radius: float = Field(
        0.35, gt=0, le=10, description="within which stars are asked for, deg; all of them come"
    )
    skyview_address: Address = Field(SKYVIEW, description="of SkyView's form")
    vizier_address: Address = Field(VIZIER, description="of VizieR's VOTables, or of a mirror")
    interval: float = Field(1.0, ge=0, description="least time between two requests, s")
    retries: int = Field(4, ge=0, description="further requests after the first, of each kind")
    backoff: float = Field(2.0, ge=0, description="wait before the first of them, s; then doubled")
    timeout: Positive = Field(120.0, description="for a whole answer, s")
    ra_column: str | None = Field(None, description="of the list; null: one with a usual name")
    dec_column: str | None = Field(None, description="of the list; null: one with a usual name")
    id_column: str | None = Field(None, description="null: ids are made of the coordinates")


class IngestionParameters(Parameters):
    """Reading images and their catalogues."""

    tile: int = Field(160, ge=32, le=2048, description="pixels on a side of what is trained on")
    min_observed: Share = Field(0.5, description="of the pixels of a tile that have data")
    ra_column: str | None = Field(None, description="of a catalogue; null: a usual name")
    dec_column: str | None = Field(None, description="of a catalogue; null: a usual name")
    magnitude_column: str | None = Field(
        None, description="of a catalogue; null: the one that follows the light of the image best"
    )
    motion_columns: tuple[str, str] | None = Field(
        None,
        description="proper motions in right ascension (times cos dec) and declination, mas/yr; "
        "null: usual names",
    )
    catalogue_epoch: float = Field(2000.0, description="of the positions, where no column says it")
    reach: Positive = Field(10.0, description="largest offset of a catalogue, pixels")
    radius: Positive = Field(2.0, description="within which a detection is a star, pixels")
    limit: Positive = Field(5.0, description="S/N of the stars that count")
    doubtful: Positive = Field(2.0, description="S/N of stars that may be found or not")
    min_excess: Share = Field(
        0.3,
        description="rate of matches of the brighter half of the stars that can be seen, less that "
        "of a shifted catalogue: below it the catalogue does not belong to the image",
    )
    max_chance: Share = Field(
        0.01, description="probability of as many matches by chance, above which it does neither"
    )

    @model_validator(mode="after")
    def _ordered(self):
        if self.doubtful > self.limit:
            msg = f"doubtful must not be above limit, got {self.doubtful} and {self.limit}"
            raise ValueError(msg)
        return self


class FeatureParameters(Parameters):
    """What a network sees, and what it is taught."""

    size: int = Field(160, ge=32, le=2048, description="pixels on a side; that of a tile")
    normalisation: Literal["local", "min_max"] = Field(
        "local", description="asinh of S/N above the local background; min_max is published"
    )
    n_channels: int = Field(1, ge=1, le=4, description="that are the same; 3 are published")
    target: Literal["profile", "discs"] = Field(
        "profile", description="a Gaussian of a pixel; discs by magnitude are published"
    )
    target_width: Positive = Field(1.0, description="sigma of the Gaussian, pixels")
    target_growth: float = Field(
        0.8, ge=0, description="of sigma for ten times the S/N above 20: bright stars are wider"
    )

    @model_validator(mode="after")
    def _divisible(self):
        if self.size % 16:
            msg = f"size must be a multiple of 16, got {self.size}"
            raise ValueError(msg)
        return self


class AugmentationParameters(SplitParameters):
    """The split, and what is trained on beside observed fields."""

    arm: Arm = Field("observed", description="what is trained on, all in as many gradient steps")
    injected: bool = Field(
        False,
        description="whether each observed tile has a copy with further stars, as wide as its own",
    )
    n_simulated: int = Field(120, ge=1, description="made-up tiles to train on, of other seeds")
    simulated_seed: Seed = 1
    fine_tuning: Share = Field(0.25, description="of the steps, in which observed fields follow")


class NetworkParameters(Parameters):
    """Architecture, see `skyloom.nets.unet`."""

    architecture: Literal["small", "published"] = "small"
    widths: tuple[Annotated[int, Field(ge=4)], ...] = Field(
        (16, 32, 64), min_length=2, max_length=5, description="filters of the levels; of small"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of small")


class TrainingParameters(learning.TrainingParameters):
    """Fitting the network."""

    batch_size: int = Field(8, ge=1)
    crop: int = Field(96, ge=32, description="pixels on a side of what a gradient step sees")
    loss: Literal["bce + dice", "bce", "focal"] = Field("bce + dice", description="bce: published")
    halve_after: int | None = Field(
        None, ge=1, description="epochs without a lower validation loss after which the learning "
        "rate is halved; null: never",
    )  # fmt: skip
    positive_weight: Positive = Field(4.0, description="of pixels with stars, in the loss")

    @model_validator(mode="after")
    def _divisible_crop(self):
        if self.crop % 16:
            msg = f"crop must be a multiple of 16, got {self.crop}"
            raise ValueError(msg)
        return self


class BaselineParameters(Parameters):
    """Classical finders, tuned on the fields that networks are trained on."""

    n_trials: int = Field(24, ge=1, description="random settings that each finder is tried with")
    seed: Seed = 0


class DetectionParameters(Parameters):
    """From images to a catalogue."""

    tile: int = Field(512, ge=64, description="pixels on a side of what is worked on at a time")
    overlap: int = Field(32, ge=8, description="of neighbouring tiles, pixels")
    threads: int = Field(2, ge=1, description="tiles that are worked on at a time")
    threshold: Share | None = Field(
        None, description="probability of a star; null: that of the validation fields"
    )
    edge: Positive = Field(3.0, description="stars closer to it are flagged, pixels")
    blend: Positive = Field(2.0, description="stars closer to each other are flagged, FWHM")
    n_sheets: int = Field(50, ge=0, description="images that are drawn with their stars")


class ReportingParameters(Parameters):
    """Scores and report."""

    seed: Seed = Field(0, description="of the bootstrap")
    n_overlays: int = Field(6, ge=1, description="fields that are drawn")


class Configuration(configurations.Configuration):
    """One configuration of a sweep: everything a fit depends on but the data and the split."""

    swept: ClassVar[dict[str, tuple[str, ...]]] = {
        "features": tuple(FeatureParameters.model_fields),
        "augmentation": ("arm", "injected", "fine_tuning"),
        "network": tuple(NetworkParameters.model_fields),
        "training": tuple(TrainingParameters.model_fields),
    }
    ranged: ClassVar[tuple[str, ...]] = ("network", "training")

    features: FeatureParameters
    augmentation: AugmentationParameters
    network: NetworkParameters
    training: TrainingParameters


class SweepParameters(configurations.FixedClassesSweep):
    """Which configurations are compared."""

    configuration: ClassVar[type[configurations.Configuration]] = Configuration


SweepsParameters = configurations.NamedSweeps[SweepParameters]


class Sweep(configurations.Sweep):
    """A sweep laid out."""

    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters

    @property
    def uses_simulated(self) -> bool:
        """Whether any of its configurations is trained on made-up fields."""
        return any("simulated" in member.augmentation.arm for member in self.members)

    @property
    def uses_injected(self) -> bool:
        """Whether any of them is trained on observed fields with further stars."""
        return any(member.augmentation.injected for member in self.members)
