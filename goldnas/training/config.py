"""Settings of a training: everything that decides its result. Needs no torch."""

import math
from typing import Annotated, Literal, Protocol

from msgspec.structs import asdict

from goldnas.errors import ConfigError
from goldnas.settings import NOT_NEGATIVE, SHARE, check_bounds, setting
from goldnas.training.recipes import TRAINING, Recipe
from goldnas.training.shared_settings import (
    DataDir,
    ImageSize,
    Loggers,
    TaskName,
    Threads,
    TrainDevice,
    Workers,
)

_DATA = "Network from a file"
TEACHER = "Teacher"
"""Groups of settings."""


class StepSettings(Protocol):
    """What the settings of a search and of a training both say of a step."""

    @property
    def epochs(self) -> int:
        """Passes over the training data."""

    @property
    def learning_rate(self) -> float:
        """Of the weights, the highest."""

    @property
    def momentum(self) -> float:
        """Of the weights."""

    @property
    def weight_decay(self) -> float:
        """Of the weights."""

    @property
    def gradient_clip(self) -> float:
        """Largest norm of the gradient."""

    @property
    def auxiliary_weight(self) -> float:
        """Of the auxiliary head's loss."""

    @property
    def amp(self) -> str:
        """``off`` or ``bf16``: number format of the forward and backward pass."""

    @property
    def task(self) -> str | None:
        """The function that says what is learnt; None for classification."""

    @property
    def loggers(self) -> tuple[str, ...]:
        """Where figures go besides the folder; no result depends on it."""


class TrainConfig(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one training of one network: those of the recipe, and those that you gave.

    They are written to ``config.json`` before the first step. So a training can be repeated and
    continued from its folder alone. :func:`goldnas.train` takes these fields as settings.

    Example:
        >>> config = trained.folder.config
        >>> type(config) is goldnas.TrainConfig, config.recipe, config.epochs
        (True, 'short', 2)
    """

    schema_version: Literal[1] = 1

    recipe: Annotated[
        str, setting("Recipe of the training; `list_recipes` shows all recipes.", kind="recipe")
    ]
    """Name of the recipe. The other settings are from it, unless they were given."""

    data: Annotated[
        str,
        setting(
            "Dataset to train a network from a file on, as for a search. A network of a "
            "search is always trained on the data and for the task of its search.",
            group=_DATA,
            kind="dataset",
        ),
    ]

    task: TaskName = None

    data_dir: DataDir = None

    image_size: ImageSize = None

    weights: Annotated[
        str | None,
        setting(
            "First weights of a ready-made network (zoo:NAME) or of a function: a "
            ".safetensors, .pt or .pth file. For zoo:NAME also the name of published weights, "
            "such as IMAGENET1K_V1 or default. Default: fresh weights.",
            group=_DATA,
            metavar="FILE|NAME",
        ),
    ] = None
    """For a file, its name without the folder, which does not change the result."""

    weights_sha256: str | None = None
    """Checksum of these weights: of the file, or of the published numbers."""

    teacher: Annotated[
        str | None,
        setting(
            "Trained network to learn from, besides the labels: the folder of a training, or "
            "of a search (its best network). It must have the same classes and image size.",
            group=TEACHER,
            metavar="DIR",
        ),
    ] = None
    """The folder as it was given; its place does not change the result."""

    teacher_sha256: str | None = None
    """Checksum of the teacher's weights."""

    teacher_share: Annotated[
        float,
        setting(
            "Share of the loss that compares with the teacher. The labels have the rest.",
            group=TEACHER,
        ),
    ] = 0.9

    temperature: Annotated[
        float,
        setting(
            "The outputs of network and teacher are divided by this number before they are "
            "compared. The higher, the more the teacher's second choices count.",
            group=TEACHER,
        ),
    ] = 4.0

    crop_padding: int
    """Pixels of padding for the random crop."""

    flip: bool
    """Whether to mirror images at random."""

    validation_fraction: Annotated[
        float,
        setting(
            "Share of the training data that is held out; 0 to train on all of it. Default: "
            "that of the search, or 0.1.",
            group=TRAINING,
            bounds=SHARE,
        ),
    ] = 0.1

    split_seed: int = 0
    """Decides which images are held out. For a network of a search, the seed of the search."""

    seed: Annotated[
        int,
        setting(
            "Random seed of the weights and of the order of the images.", bounds=NOT_NEGATIVE
        ),
    ] = 0

    warm: bool = False
    """Whether the network starts from the weights of the search."""

    workers: Workers = None

    train_device: TrainDevice = "auto"

    threads: Threads = None

    loggers: Loggers = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        if not 0 < self.gradient_clip < math.inf:
            raise ConfigError(
                f"`gradient_clip` must be positive and finite, got {self.gradient_clip}"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(
                f"`weight_decay` must be 0 or more, and finite, got {self.weight_decay}"
            )
        for field in ("ema_decay", "momentum", "warm_up"):
            value = getattr(self, field)
            if not 0 <= value < 1:
                raise ConfigError(f"`{field}` must lie in [0, 1), got {value}")
        if not 0 < self.teacher_share <= 1:
            raise ConfigError(f"`teacher_share` must lie in (0, 1], got {self.teacher_share}")
        if not 0.1 <= self.temperature <= 100:
            raise ConfigError(f"`temperature` must lie in [0.1, 100], got {self.temperature}")
        if not 0 <= self.body_rate <= 1:
            raise ConfigError(f"`body_rate` must lie in [0, 1], got {self.body_rate}")
        if self.batch_size < 2:
            raise ConfigError(
                f"`batch_size` must be at least 2, got {self.batch_size}: batches are "
                "normalised"
            )
        if self.seed >= 2**63:
            raise ConfigError(f"`seed` must be under 2**63, got {self.seed}")

    def describe_teacher(self) -> str | None:
        """The teacher, and how much it counts, in a few words; None without one."""
        if self.teacher_sha256 is None:
            return None
        how = f"share {self.teacher_share:g}, temperature {self.temperature:g}"
        return f"{self.teacher_sha256[:8]}, {how}"

    def differences(self, other: "TrainConfig") -> list[str]:
        """The settings that differ and decide the result, ``epochs (15, not 20)``."""
        mine, theirs = asdict(self), asdict(other)
        same_weights = self.weights_sha256 == other.weights_sha256  # in a file of any name
        same_teacher = self.teacher_sha256 == other.teacher_sha256
        apart = (
            *("workers", "loggers"),
            *["weights"] * same_weights,
            *["teacher"] * same_teacher,
        )
        return [
            f"{name} ({mine[name]}, not {theirs[name]})"
            for name in mine
            if name not in apart and mine[name] != theirs[name]
        ]
