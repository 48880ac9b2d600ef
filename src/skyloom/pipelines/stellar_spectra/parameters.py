"""Every parameter of the study of stellar spectra, with its unit, bounds and default."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from skyloom.archives.lamost import ADDRESS
from skyloom.learning import configurations, parameters
from skyloom.learning.configurations import variant_name
from skyloom.learning.fitting import TrainingParameters
from skyloom.learning.parameters import Parameters, Positive, Seed, Share
from skyloom.learning.splitting import SplitParameters
from skyloom.spectra.optical.preparation import PUBLISHED_PIXELS, log_grid
from skyloom.spectra.optical.spectral_types import CLASSES

_EQUAL = (1.0,) * 7


class StarParameters(Parameters):
    """Distributions of made-up stars, see `skyloom.simulate.stellar_spectra.draw_truth`."""

    class_shares: tuple[Share, Share, Share, Share, Share, Share, Share] = Field(
        _EQUAL, description="of O, B, A, F, G, K, M"
    )
    snr: tuple[float, float] = Field((8.0, 100.0), description="of a pixel in g, log-uniform")
    velocity: Positive = Field(60.0, description="standard deviation, km/s")
    reddening: Positive = Field(0.2, description="mean E(B-V), mag")
    calibration: float = Field(
        0.05, ge=0, description="standard deviation of the step between the arms and their tilts"
    )
    scatter: float = Field(0.15, ge=0, description="of line strengths, e-folds")

    @model_validator(mode="after")
    def _possible(self):
        low, high = self.snr
        if not 0 < low < high:
            msg = f"snr must ascend above 0, got {self.snr}"
            raise ValueError(msg)
        if not sum(self.class_shares):
            msg = "class_shares must not all be 0"
            raise ValueError(msg)
        return self


class SimulationParameters(Parameters):
    """A made-up survey with known truth."""

    seed: Seed = Field(0, description="everything random in the sample follows from it")
    n_stars: int = Field(1200, ge=1)
    repeat_share: Share = Field(0.05, description="of the stars that are observed twice")
    stars: StarParameters = StarParameters()


class ArchiveParameters(Parameters):
    """Fetching spectra by their observation ids."""

    address: str = Field(ADDRESS, description="of the archive; {obsid} stands for the id")
    interval: float = Field(1.0, ge=0, description="least time between two requests, s")
    retries: int = Field(4, ge=0, description="further requests for a file after the first")
    backoff: float = Field(2.0, ge=0, description="wait before the first of them, s; then doubled")
    timeout: Positive = Field(60.0, description="for a whole answer, s")


class CatalogueParameters(Parameters):
    """Splitting and sampling a catalogue, see `skyloom.archives.lamost.split_catalogue`."""

    n_sampled: int = Field(1400, ge=1, description="observation ids of each class")
    seed: Seed = Field(0, description="of the sample")
    id_column: str = "obsid"
    kind_column: str = Field("class", description="only STAR has a spectral class")
    class_column: str = "subclass"
    # A bar on the command line comes as an empty text: in YAML it begins a block.
    delimiter: str | None = Field(None, description="null or empty: found out")
    memory: str = Field("512MB", description="limit of the reader")


class IngestionParameters(Parameters):
    """Reading spectra and what is known of their stars."""

    min_snr: float = Field(5.0, ge=0, description="in g, where the file or the table tells it")
    duplicate_radius: float = Field(
        3.0, ge=0, description="spectra closer than this are of one star, arcsec"
    )


class FeatureParameters(Parameters):
    """From a spectrum to what a network sees."""

    preparation: Literal["corrected", "published"] = "corrected"
    low: Positive = Field(3850.0, description="of the corrected spectra: blue end, Angstrom")
    high: Positive = Field(7300.0, description="red end, Angstrom, in vacuum")
    step: Positive = Field(2e-4, description="pixel, in log10(wavelength); LAMOST has 1e-4")
    continuum_width: Positive = Field(
        0.02, description="standard deviation of the pseudo-continuum, in log10(wavelength)"
    )
    min_coverage: Share = Field(0.85, description="least share of good pixels")
    form: Literal["spectrum", "published", "wrapped", "scalogram"] = Field(
        "spectrum",
        description="along the wavelength; with every pixel a channel, as published; as an image "
        "of rows; as an image of wavelet coefficients",
    )
    height: int = Field(32, ge=4, le=256, description="rows of an image")

    @model_validator(mode="after")
    def _possible(self):
        if self.low >= self.high:
            msg = f"low must be below high, got {self.low} and {self.high}"
            raise ValueError(msg)
        if self.n_pixels < 4 * self.height:
            msg = f"{self.n_pixels} pixels are too few for {self.height} rows"
            raise ValueError(msg)
        return self

    @property
    def grid(self) -> np.ndarray:
        """Wavelengths of the corrected spectra, Angstrom in vacuum."""
        return log_grid(self.low, self.high, self.step)

    @property
    def n_pixels(self) -> int:
        """Pixels of a spectrum."""
        return PUBLISHED_PIXELS if self.preparation == "published" else len(self.grid)

    @property
    def size(self) -> int:
        """Side of an image of as many pixels; fits of larger ones get more threads."""
        return round(self.n_pixels**0.5)

    @property
    def prepared(self) -> str:
        """Name of the prepared spectra, whatever form they are given afterwards."""
        content = self.model_dump(mode="json", exclude={"form", "height"})
        return variant_name(self.size, content)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what a network is given."""
        n = self.n_pixels
        return {
            "spectrum": (n, 1),
            "published": (1, n),
            "wrapped": (self.height, n // self.height, 1),
            "scalogram": (self.height, self.n_columns, 1),
        }[self.form]

    @property
    def n_columns(self) -> int:
        """Columns of a scalogram."""
        return min(3 * self.height, self.n_pixels)


Arm = Literal["none", "class weights", "repeats", "jitter", "simulated", "gan"]
MADE_ARMS = frozenset({"repeats", "jitter", "simulated", "gan"})  # that add spectra of the class


class AugmentationParameters(SplitParameters):
    """Split, and what is done for the rare class."""

    split: Literal["holdout", "folds"] = Field(
        "folds",
        description="one test part, or every star tested once; a sweep with test_surveys has its "
        "own",
    )
    rare_class: Literal["O", "B", "A", "F", "G", "K", "M"] = Field(
        "O", description="of which there are too few"
    )
    arm: Arm = Field(
        "class weights",
        description="what is done for it: nothing; every class comes equally often; the observed "
        "ones again, changed copies, simulated or made ones until it is as frequent as the median "
        "class",
    )


class JitterParameters(Parameters):
    """Changed copies of spectra of the rare class."""

    velocity: float = Field(30.0, ge=0, description="standard deviation of a shift, km/s")
    noise: float = Field(0.02, ge=0, description="standard deviation, in units of the continuum")
    tilt: float = Field(0.03, ge=0, description="standard deviation of a change of the slope")


class SyntheticParameters(Parameters):
    """Spectra of the rare class that are made up."""

    n_spectra: int = Field(400, ge=1, description="changed copies, simulated ones, and made ones")
    seed: Seed = 1
    jitter: JitterParameters = JitterParameters()
    stars: StarParameters = StarParameters()


class GeneratorParameters(Parameters):
    """Adversarial networks that make spectra of the rare class."""

    kind: Literal["spectral_gan", "published_gan"] = "spectral_gan"
    latent: int = Field(32, ge=2, description="random numbers of a spectrum; 900 are published")
    width: int = Field(64, ge=16, description="filters of the shortest feature maps")
    epochs: int = Field(400, ge=1, description="passes through the training spectra")
    checkpoint_every: int = Field(
        50, ge=1, description="epochs; a stopped training goes on from the last checkpoint"
    )
    batch_size: int = Field(32, ge=1, description="1 is published")
    learning_rate: Positive = Field(
        5e-4, description="of the generator; the discriminator has four times as much, unless the "
        "kind is published_gan",
    )  # fmt: skip
    seed: Seed = 0


class GenerationParameters(Parameters):
    """Made spectra of the rare class, written as files."""

    n_spectra: int = Field(100, ge=1)
    seed: Seed = 2


class NetworkParameters(Parameters):
    """Architecture, see `skyloom.nets.star_cnn`."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (10, 20, 40, 50), min_length=1, description="filters of the convolutions"
    )
    kernel_size: int = Field(
        3, ge=1, description="pixels of a filter; 2 to 5 in the published study"
    )
    pool: int = Field(4, ge=1, description="pixels that a pooling makes one of; 2 is published")
    dense: int = Field(128, ge=1, description="width of the dense layer; 11500 is published")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="share dropped after the dense layer; none is published"
    )


class AuditParameters(Parameters):
    """The published recipe to the letter, beside the honest one."""

    enabled: bool = True
    kernel_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((2, 3, 4, 5), min_length=1)
    epochs: int = Field(20, ge=1, description="140 are published")
    batch_size: int = Field(32, ge=1)
    n_repeats: int = Field(3, ge=1, description="splits of each kernel size; 5 are published")
    n_per_class: int = Field(
        200, ge=10, description="spectra at most, of the rare class with made ones; 1400 published"
    )
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    generator_epochs: int = Field(40, ge=1, description="8000 are published")
    checkpoint_every: int = Field(
        10, ge=1, description="epochs of the generator; a checkpoint has 105 MB"
    )
    latent: int = Field(900, ge=2, description="random numbers of a made spectrum")
    seed: Seed = 0


class ReportingParameters(Parameters):
    """Scores and report."""

    seed: Seed = Field(0, description="of the permutation tests and the bootstrap")
    population: tuple[Share, Share, Share, Share, Share, Share, Share] = Field(
        (1e-5, 1e-3, 0.05, 0.33, 0.41, 0.13, 0.05),
        description="shares of O, B, A, F, G, K, M in which the purity is given; about LAMOST's",
    )
    n_snr_bins: int = Field(5, ge=1, description="of the success rate against S/N")
    occlusion_width: Positive = Field(40.0, description="of the window that is hidden, Angstrom")
    n_occluded: int = Field(20, ge=1, description="stars of each class whose windows are hidden")


class PredictionParameters(parameters.PredictionParameters):
    """Classifying new spectra with a finished network."""

    classes: ClassVar[tuple[str, ...]] = CLASSES


class Configuration(configurations.Configuration):
    """One configuration of a sweep: everything a fit depends on but the data and the split."""

    swept: ClassVar[dict[str, tuple[str, ...]]] = {
        "features": tuple(FeatureParameters.model_fields),
        "augmentation": ("arm",),
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

    test_surveys: tuple[str, ...] = Field(
        (), description="tested on these surveys, by folder or layout; empty: the split of the "
        "augmentation",
    )  # fmt: skip
    train_surveys: tuple[str, ...] = Field(
        (), description="where test_surveys are given: trained on these; empty: on all others"
    )
    configuration: ClassVar[type[configurations.Configuration]] = Configuration


SweepsParameters = configurations.NamedSweeps[SweepParameters]


class Sweep(configurations.Sweep):
    """A sweep laid out."""

    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters

    @property
    def preparations(self) -> dict[str, FeatureParameters]:
        """One set of features for each way of preparing spectra, that of the base first."""
        every = [self.base, *self.members]
        return {each.features.prepared: each.features for each in every}

    @property
    def arms(self) -> list[str]:
        """What its configurations do for the rare class."""
        return sorted({member.augmentation.arm for member in self.members})

    @model_validator(mode="after")
    def _made_alike(self):
        if "gan" in self.arms and len(self.preparations) > 1:
            msg = (
                "arms with gan cannot vary the preparation of spectra: the networks that make "
                "them are trained once"
            )
            raise ValueError(msg)
        return self
