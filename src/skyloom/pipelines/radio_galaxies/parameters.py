"""Every parameter of the radio-galaxy study, with its unit, bounds and default."""

from __future__ import annotations

import json
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from skyloom.archives.first import ADDRESS
from skyloom.learning import configurations, parameters
from skyloom.learning.fitting import TrainingParameters
from skyloom.learning.generative import KINDS
from skyloom.learning.parameters import Parameters, Positive, Seed, Share
from skyloom.learning.splitting import SplitParameters
from skyloom.simulate.radio_galaxies import BEAM_FWHM, CLASSES, PIXEL_SCALE

Arm = Literal["real", "real + geometric", "real + dcgan", "real + vae", "geometric", "dcgan", "vae"]


class SourceParameters(Parameters):
    """Distributions of made-up sources, see `skyloom.simulate.radio_galaxies.draw_truth`."""

    class_shares: tuple[Share, Share, Share, Share] = Field(
        (0.25, 0.25, 0.25, 0.25), description=f"of {', '.join(CLASSES)}"
    )
    straight_scale: Positive = Field(7.0, description="half-Gaussian of bending angles, deg")
    bent_range: tuple[float, float] = Field(
        (35.0, 130.0), description="uniform bending angles of bent sources, deg"
    )
    length_median: Positive = Field(26.0, description="of an arm, arcsec")
    length_scatter: float = Field(0.4, ge=0, description="e-folds")
    length_asymmetry: float = Field(0.15, ge=0, description="of the two arms, as a share")
    flux_ratio_scatter: float = Field(0.35, ge=0, description="of the two arms, e-folds")
    width_median: Positive = Field(2.5, description="sigma of an arm at its end, arcsec")
    width_scatter: float = Field(0.3, ge=0, description="e-folds")
    snr_median: Positive = Field(60.0, description="peak by noise")
    snr_scatter: float = Field(0.8, ge=0, description="e-folds")
    noise: Positive = Field(0.15, description="mJy/beam")
    offset: float = Field(1.5, ge=0, description="of the host from the middle, arcsec")
    neighbour_rate: float = Field(0.3, ge=0, description="unrelated sources of an image")
    beam_fwhm: Positive = Field(BEAM_FWHM, description="arcsec")

    @model_validator(mode="after")
    def _possible(self):
        low, high = self.bent_range
        if not 0 < low < high <= 180:
            msg = f"bent_range must ascend between 0 and 180 deg, got {self.bent_range}"
            raise ValueError(msg)
        if not sum(self.class_shares):
            msg = "class_shares must not all be 0"
            raise ValueError(msg)
        return self


class SimulationParameters(Parameters):
    """A made-up survey with known truth."""

    seed: Seed = Field(0, description="everything random in the sample follows from it")
    n_sources: int = Field(600, ge=1)
    size: int = Field(150, ge=32, le=1024, description="pixels on a side of a cut-out")
    pixel_scale: Positive = Field(PIXEL_SCALE, description="arcsec")
    sources: SourceParameters = SourceParameters()


class ArchiveParameters(Parameters):
    """Asking the FIRST survey's cut-out service for the sources of a list."""

    address: str = Field(ADDRESS, description="of the service")
    size: Positive = Field(4.5, description="side of a cut-out, arcmin")
    interval: float = Field(1.0, ge=0, description="least time between two requests, s")
    retries: int = Field(4, ge=0, description="further requests for a file after the first")
    backoff: float = Field(2.0, ge=0, description="wait before the first of them, s; then doubled")
    timeout: Positive = Field(60.0, description="for a whole answer, s")
    ra_column: str | None = Field(None, description="of the list; null: one with a usual name")
    dec_column: str | None = None
    class_column: str | None = Field(None, description="null: the list has no classes")
    id_column: str | None = Field(None, description="null: ids are made of the coordinates")


class IngestionParameters(Parameters):
    """Reading cut-outs, their labels, and the selection of a sample."""

    file_pattern: str = Field(
        r"(?P<id>[^/]+?)(?i:\.(fits?|png|jpe?g))?(\.gz)?$",
        description="regular expression found in the path of a file, inside archives too; its "
        "named groups, all optional, say what the name tells: id, class, role (of a given split), "
        "ra and dec (deg), and the catalogue that the class is of",
    )
    class_values: dict[Literal["FRI", "FRII", "bent", "compact"], tuple[str, ...]] = Field(
        {"FRI": ("FR1", "FR class I", "Fanaroff-Riley I"),
         "FRII": ("FR2", "FR class II", "Fanaroff-Riley II"),
         "bent": ("bent tail", "bent-tailed", "BT", "WAT", "wide-angle tail", "wide-angle-tailed",
                  "NAT", "narrow-angle tail", "narrow-angle-tailed", "HT", "head tail",
                  "head-tail", "head-tailed"),
         "compact": ("compact source", "point", "point source", "unresolved")},
        description="what else the classes are called in file names and in the label table; case, "
        "blanks, dashes and underscores do not matter",
    )  # fmt: skip
    id_column: str = Field("id", description="of the label table: id, or id_row of a stack")
    class_column: str = Field("class", description="of the label table")
    angle_column: str | None = Field(
        "bending_angle", description="of the label table, deg; such as Garon et al. publish"
    )
    size: int = Field(150, ge=16, le=2048, description="pixels on a side that are kept")
    duplicate_radius: float = Field(
        10.0, ge=0, description="entries closer than this are one source, arcsec"
    )
    min_snr: Positive = Field(10.0, description="peak of a source by noise")
    radius: Positive = Field(
        40.0, description="light that comes nowhere closer to the middle is another source, pixels"
    )
    max_neighbour_share: Share = Field(0.5, description="of the light, in other sources")
    reject_at_edge: bool = Field(True, description="sources that touch the edge of the cut-out")

    @field_validator("file_pattern")
    @classmethod
    def _known_groups(cls, value):
        try:
            groups = set(re.compile(value).groupindex)
        except re.error as error:
            msg = f"file_pattern is no regular expression: {error}"
            raise ValueError(msg) from error
        unknown = groups - {"id", "class", "role", "ra", "dec", "catalogue"}
        if unknown:
            msg = f"file_pattern has groups that mean nothing: {sorted(unknown)}"
            raise ValueError(msg)
        return value


class FeatureParameters(Parameters):
    """From a cut-out to what a network sees."""

    clip: bool = Field(True, description="set everything below the threshold to zero, as published")
    clip_sigma: Positive = Field(3.0, description="threshold in units of the noise")
    clip_iterations: int = Field(10, ge=1, description="of the noise measurement")
    eight_bits: bool = Field(
        False, description="what is above the threshold, in 255 steps: images in Jy/beam and "
        "pictures of the same sources, which have no more, are then alike",
    )  # fmt: skip
    min_pixels: int = Field(0, ge=0, description="islands of light that are smaller are removed")
    centre: Literal["image", "peak", "centroid"] = Field(
        "image", description="what is centred; the middle of the cut-out as published"
    )
    crop: int = Field(100, ge=16, description="pixels on a side about the centre")
    size: int = Field(64, ge=16, le=512, description="pixels on a side of the network's input")
    stretch: Literal["min_max", "asinh"] = Field("min_max", description="min_max is published")

    @model_validator(mode="after")
    def _clipped_before(self):
        if self.eight_bits and not self.clip:
            msg = "eight_bits needs clip: pictures show what is above the threshold"
            raise ValueError(msg)
        return self


class AugmentationParameters(SplitParameters):
    """Split, and what is trained on beside the observed images."""

    arm: Arm = Field("real", description="what is trained on")
    synthetic_ratio: Positive = Field(
        1.0,
        description="synthetic images by observed ones of the whole training part, where both are "
        "trained on; those of a smaller pool come more than once",
    )
    real_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="of the observed training images, by class; for learning curves"
    )
    n_copies: int | None = Field(
        None, ge=0, description="turned and mirrored copies of each training image; null: anew "
        "in every gradient step",
    )  # fmt: skip
    balance_classes: bool = Field(True, description="every class weighs the same in training")
    average_orientations: bool = Field(
        False, description="predictions of the sweep are means over the eight orientations of the "
        "square, as those of new cut-outs are",
    )  # fmt: skip


class SyntheticParameters(Parameters):
    """Geometric simulations that are trained on."""

    n_images: int = Field(800, ge=4, description="geometric ones, and of each generator")
    seed: Seed = 1
    fit: bool = Field(
        True, description="fit sizes, brightnesses and asymmetries to the training images"
    )
    sources: SourceParameters = Field(
        SourceParameters(), description="distributions, of what is not fitted"
    )


class GeneratorParameters(Parameters):
    """Networks that make images: adversarial ones (DCGAN) and a variational autoencoder (VAE)."""

    size: int = Field(64, ge=16, le=256, description="pixels on a side; 56 is published")
    conditional: bool = Field(True, description="one network is told the class; else one for each")
    latent: int = Field(64, ge=2, description="random numbers of an image")
    width: int = Field(64, ge=16, description="filters of the smallest feature maps")
    epochs: dict[Literal["dcgan", "vae"], Annotated[int, Field(ge=1)]] = Field(
        {"dcgan": 160, "vae": 120}, description="passes through the training images"
    )
    checkpoint_every: int = Field(
        20, ge=1, description="epochs; a stopped training goes on from the last checkpoint"
    )
    batch_size: int = Field(32, ge=2)
    learning_rates: dict[Literal["dcgan", "vae"], Positive] = Field({"dcgan": 2e-4, "vae": 1e-3})
    kl_weight: Positive = Field(1.0, description="of the divergence in the loss of the VAE")
    rotate: bool = Field(True, description="turn and mirror the training images at random")
    seed: Seed = 0

    @model_validator(mode="after")
    def _every_kind(self):
        for name in ("epochs", "learning_rates"):
            missing = set(KINDS) - set(getattr(self, name))
            if missing:
                msg = f"{name}: nothing for {', '.join(sorted(missing))}"
                raise ValueError(msg)
        return self


class NetworkParameters(Parameters):
    """Architecture, see `skyloom.nets.alhassan`."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 194), min_length=1, description="filters of the blocks"
    )
    dense: int = Field(194, ge=1, description="width of the dense layer")
    kernel_size: int = Field(3, ge=1, description="pixels on a side of the filters")
    pool_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share dropped after each pooling; 0.25 in the published variant"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="share dropped after the dense layer"
    )


class BendingParameters(Parameters):
    """Regression of the bending angle."""

    arms: tuple[Literal["real", "real + geometric", "geometric"], ...] = (
        "real", "real + geometric", "geometric",
    )  # fmt: skip
    epochs: int = Field(30, ge=1)
    steps_per_epoch: int = Field(40, ge=1, description="gradient steps between two validations")
    synthetic_ratio: Positive = Field(
        5.0, description="synthetic images by observed ones, where both are trained on"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share dropped after the dense layer: angles need less of it than classes"
    )


class ReportingParameters(Parameters):
    """Scores and report."""

    seed: Seed = Field(0, description="of the permutation tests and the bootstrap")
    n_sample_images: int = Field(12, ge=1, description="images in the grid of examples")


class PredictionParameters(parameters.PredictionParameters):
    """Classifying new cut-outs with a finished network."""

    classes: ClassVar[tuple[str, ...]] = CLASSES

    average_orientations: bool = Field(
        True, description="probabilities are means over the eight orientations of the square"
    )
    shift: int = Field(
        1, ge=0, description="pixels of the cut-out: they are means over shifts by so many up, "
        "down, left and right, too",
    )  # fmt: skip


class Configuration(configurations.Configuration):
    """One configuration of a sweep: everything a fit depends on but the data and the split."""

    swept: ClassVar[dict[str, tuple[str, ...]]] = {
        "features": tuple(FeatureParameters.model_fields),
        "augmentation": (
            "arm", "synthetic_ratio", "real_share", "n_copies", "balance_classes",
            "average_orientations",
        ),
        "network": tuple(NetworkParameters.model_fields),
        "training": tuple(TrainingParameters.model_fields),
    }  # fmt: skip
    ranged: ClassVar[tuple[str, ...]] = ("network", "training")

    features: FeatureParameters
    augmentation: AugmentationParameters
    network: NetworkParameters
    training: TrainingParameters

    @property
    def synthetic(self) -> str | None:
        """Kind of the synthetic images it is trained on, if there are any."""
        kind = self.augmentation.arm.removeprefix("real").removeprefix(" + ")
        return kind or None

    @property
    def uses_real(self) -> bool:
        """Whether it is trained on observed images."""
        return self.augmentation.arm.startswith("real")


class SweepParameters(configurations.FixedClassesSweep):
    """Which configurations are compared."""

    bending: bool = Field(False, description="also train regressors of the bending angle")
    test_catalogues: tuple[str, ...] = Field(
        (), description="tested on the sources of these catalogues, as file names tell them; "
        "empty: the split of the augmentation",
    )  # fmt: skip
    train_catalogues: tuple[str, ...] = Field(
        (), description="where test_catalogues are given: trained on these; empty: on all others"
    )
    configuration: ClassVar[type[configurations.Configuration]] = Configuration

    @model_validator(mode="after")
    def _classes_across_catalogues(self):
        if self.test_catalogues and self.bending:
            msg = "bending must be false with test_catalogues: these split the classes only"
            raise ValueError(msg)
        return self


SweepsParameters = configurations.NamedSweeps[SweepParameters]


class Sweep(configurations.Sweep):
    """A sweep laid out."""

    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters

    @property
    def input_variants(self) -> dict[str, Configuration]:
        """One configuration for each distinct set of images, that of the regressors among them."""
        extra = {self.base.input_variant: self.base} if self.parameters.bending else {}
        return super().input_variants | extra

    @model_validator(mode="after")
    def _made_alike(self):
        made = {"dcgan", "vae"} & set(self.synthetic)
        others = {
            json.dumps(member.features.model_dump(mode="json", exclude={"size"}))
            for member in self.members
        }
        own = json.dumps(self.base.features.model_dump(mode="json", exclude={"size"}))
        if made and others != {own}:
            msg = (
                f"arms with {', '.join(sorted(made))} cannot vary features but their size: the "
                "networks that make images are trained once"
            )
            raise ValueError(msg)
        return self

    @property
    def synthetic(self) -> list[str]:
        """Kinds of synthetic images that its configurations are trained on."""
        return sorted({member.synthetic for member in self.members} - {None})
