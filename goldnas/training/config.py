"""Settings of a training: everything that decides its result. Needs no torch."""

import math
from typing import Literal

from msgspec.structs import asdict

from goldnas.errors import ConfigError
from goldnas.training.recipes import Recipe


class TrainConfig(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one training of one network: the recipe's, with what was given besides.

    Written to ``config.json`` before the first step, so that a training can be repeated, and
    continued, from its folder alone.
    """

    schema_version: Literal[1] = 1

    recipe: str
    """Name of the recipe that the other settings are from, unless they were given."""

    data: str
    """Name of a dataset, path of a folder or an ``.npz``, or ``package.module:function``."""

    task: str | None = None
    """``package.module:function`` of what is learnt; None for classification."""

    data_dir: str | None = None
    """Where named datasets are kept, or downloaded to."""

    image_size: int | None = None
    """Side that the images of a folder are resized to."""

    crop_padding: int
    """Pixels of padding for the random crop."""

    flip: bool
    """Whether to mirror images at random."""

    validation_fraction: float = 0.1
    """Share of the training data held out; 0 for none."""

    split_seed: int = 0
    """Decides which images are held out; of a search's network, the seed of the search."""

    seed: int = 0
    """Of the weights, and of the order and augmentation of the images."""

    warm: bool = False
    """Whether it begins with the weights that the search left."""

    workers: int | None = None
    """Processes that load images; None for what suits the data. No result depends on it."""

    train_device: str = "auto"
    """``cuda``, ``mps``, ``cpu``, or ``auto`` for the first of these there is."""

    threads: int | None = None
    """CPU threads of the training; None for torch's own choice."""

    loggers: tuple[str, ...] = ()
    """Where figures go besides the folder: names of goldnas.loggers, or
    ``package.module:function``. No result depends on it."""

    def __post_init__(self) -> None:
        for field in ("epochs", "learning_rate", "gradient_clip", "threads"):
            value = getattr(self, field)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{field} must be positive and finite, got {value}")
        for field in ("auxiliary_weight", "weight_decay", "cutout", "workers", "seed"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{field} must be 0 or more, and finite, got {value}")
        shares = (
            *("drop_path", "label_smoothing", "ema_decay"),
            *("validation_fraction", "momentum", "warm_up"),
        )
        for field in shares:
            value = getattr(self, field)
            if not 0 <= value < 1:
                raise ConfigError(f"{field} must lie in [0, 1), got {value}")
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size must be at least 2, got {self.batch_size}: batches are normalised"
            )
        if self.seed >= 2**63:
            raise ConfigError(f"seed must be under 2**63, got {self.seed}")

    def differences(self, other: "TrainConfig") -> list[str]:
        """What differs in another one that decides the result, ``epochs (15, not 20)``."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name} ({mine[name]}, not {theirs[name]})"
            for name in mine
            if name not in ("workers", "loggers") and mine[name] != theirs[name]
        ]
