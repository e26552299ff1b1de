"""Settings of a search: everything that decides its result. Needs no torch."""

import math
from typing import Annotated, Literal

import msgspec

from goldnas.errors import ConfigError
from goldnas.settings import NOT_NEGATIVE, POSITIVE, check_bounds, setting
from goldnas.space_settings import SpaceSettings
from goldnas.training.shared_settings import (
    AMP,
    AuxiliaryWeight,
    DataDir,
    ImageSize,
    Loggers,
    TaskName,
    Threads,
    TrainDevice,
    Workers,
)

_BUDGET, _DATA, _STRATEGY = "Budgets", "Data", "Strategy"
_TRAINING, _PACE = "Training", "Pace of the pruning"


class SearchConfig(SpaceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one search, with the symbols of GOLD-NAS (arXiv:2007.03331, Algorithm 1).

    If a setting is None and the strategy or the schedule decides it, the struct holds their
    value. It is written to ``config.json`` of the run before the first step. So a run can be
    repeated and continued from its folder alone. :func:`goldnas.search` takes these fields as
    settings.

    Example:
        >>> config = goldnas.SearchConfig(budgets=("600MFLOPs",), epochs=20)
        >>> config.strategy, config.batch_size
        ('gold', 96)
    """

    schema_version: Literal[1] = 1

    budgets: Annotated[
        tuple[str, ...],
        setting(
            "What a network may cost: 600MFLOPs, 3Mparams or 5ms; with several latency tables, "
            "5ms@pi5 names the table. Repeat for several budgets, which all hold at the end.",
            group=_BUDGET,
            metavar="AMOUNT",
        ),
    ] = ()

    single: Annotated[
        bool,
        setting(
            "Leave exactly one operator at each node or choice, and one at most where a choice "
            "is optional. Goes with budgets or without.",
            group=_BUDGET,
        ),
    ] = False

    tables: tuple[str, ...] = ()
    """Names of the latency tables, kept in the run's folder."""

    data: Annotated[
        str,
        setting(
            "Dataset: cifar10, cifar100, fashion-mnist, digits (needs no download), a folder "
            "with train/ and val/ or test/, WebDataset shards (shards/train-{000..099}.tar, or "
            "their folder), an .npz file, or a function of yours (my_module:data).",
            group=_DATA,
            kind="dataset",
        ),
    ] = "digits"

    task: TaskName = None

    data_dir: DataDir = None

    image_size: ImageSize = None

    flip: Annotated[
        bool | None,
        setting(
            "Mirror training images at random. Unless given, images in colour are mirrored, "
            "and grey ones are not.",
            group=_DATA,
        ),
    ] = None

    crop_padding: Annotated[
        int | None,
        setting(
            "Pixels of padding around an image before it is cropped at random; an eighth of "
            "its side unless given, 0 for none.",
            group=_DATA,
            bounds=NOT_NEGATIVE,
        ),
    ] = None

    cutout: Annotated[
        int,
        setting(
            "Side of the square that Cutout hides, in pixels; 0 for none.",
            group=_DATA,
            bounds=NOT_NEGATIVE,
        ),
    ] = 0

    autoaugment: Annotated[bool, setting("Apply AutoAugment for CIFAR-10.", group=_DATA)] = (
        False
    )

    validation_fraction: Annotated[
        float,
        setting("Share of the training data held out to score networks.", group=_DATA),
    ] = 0.1

    workers: Workers = None

    strategy: Annotated[
        str,
        setting(
            "How to search: gold, one-shot, darts1, darts2, random, evolution, tpe or another. "
            "`list_strategies` shows all of them and what each does.",
            group=_STRATEGY,
            metavar="NAME",
            kind="strategy",
        ),
    ] = "gold"

    levels: Annotated[
        Literal[1, 2],
        setting(
            "1: weights and gates learn from the same images. 2: weights learn from one half "
            "of the images, and gates from the other, as in DARTS. The strategy decides unless "
            "given.",
            group=_STRATEGY,
        ),
    ] = None  # type: ignore[assignment]  # the strategy decides

    edge_rule: Annotated[
        bool,
        setting(
            "Keep at most one operator per edge and two edges per node, as DARTS does. The "
            "space darts always does.",
            group=_STRATEGY,
        ),
    ] = False

    networks: Annotated[
        int | None,
        setting(
            "Networks to try, for strategies that sample them. Unless given, 100 with random "
            "and 200 with the others. A single random network is neither trained nor scored.",
            group=_STRATEGY,
            bounds=POSITIVE,
        ),
    ] = None

    score: Annotated[
        Literal["supernet", "naswot", "synflow"] | None,
        setting(
            "What ranks sampled networks. supernet: their accuracy on held-out images (or the "
            "metric of the `task`), with shared weights that are trained for `epochs`. naswot, "
            "synflow: zero-cost proxies, without any training.",
            group=_STRATEGY,
        ),
    ] = None

    storage: Annotated[
        str | None,
        setting(
            "Optuna storage that lets several searches work on one study (evolution, tpe), for "
            "example sqlite:///study.db.",
            group=_STRATEGY,
            metavar="URL",
        ),
    ] = None

    epochs: Annotated[
        int,
        setting(
            "Passes over the training data, 50 unless given. All budgets hold after the last. "
            "With `pace='paper'` this is a limit, 1000 unless given.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = None  # type: ignore[assignment]  # the pace decides

    batch_size: Annotated[
        int,
        setting(
            "Images per step, over all processes; auto for as many as fit into memory, up to "
            "512.",
            group=_TRAINING,
            bounds=POSITIVE,
            metavar="N|auto",
        ),
    ] = 96

    accumulate: Annotated[
        int,
        setting(
            "Compute each step in this many parts, one after the other, to need less memory. "
            "The images per step stay the same.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = 1

    learning_rate: Annotated[
        float,
        setting(
            "Learning rate of the weights. Unless given, 0.05; with `pace='paper'`, 0.01; with "
            "the DARTS strategies, 0.025.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = None  # type: ignore[assignment]  # strategy and pace decide

    gate_learning_rate: Annotated[
        float,
        setting(
            "Learning rate of the gates, where gates learn. Unless given, 1; with the DARTS "
            "strategies, whose optimiser is Adam, 3e-4.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = None  # type: ignore[assignment]  # the strategy decides

    auxiliary_weight: AuxiliaryWeight = 0.4

    momentum: float = 0.9
    """Of weights and gates."""

    weight_decay: float = 3e-4
    """Of the weights; the gates have none."""

    gradient_clip: float = 5.0
    """Largest norm of the weights' gradient."""

    check_images: int = 1000
    """Held-out images, at most, that score a network before and after each pruning."""

    seed: Annotated[int, setting("Random seed.", group=_TRAINING, bounds=NOT_NEGATIVE)] = 0

    train_device: TrainDevice = "auto"

    amp: Annotated[
        str,
        setting(
            AMP,
            group=_TRAINING,
            kind="amp",
        ),
    ] = "off"

    checkpointing: Annotated[
        bool,
        setting(
            "Keep fewer activations and compute them again in the backward pass: less memory, "
            "more time.",
            group=_TRAINING,
        ),
    ] = False

    threads: Threads = None

    pace: Annotated[
        Literal["planned", "paper"],
        setting(
            "planned: choose by importance, and prune step by step so that every budget holds "
            "after `epochs`. paper: "
            "prune as in the paper's Algorithm 1, until every budget holds.",
            group=_PACE,
        ),
    ] = "planned"

    n0: Annotated[
        int | None,
        setting(
            "Operators to prune at a time; a hundredth of all unless given.",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = None

    xi_max: Annotated[
        float,
        setting(
            "An operator whose gate has less than this share of its node is weak. With "
            "`pace='paper'`, up to `n0` weak operators are pruned at a time; one-shot prunes "
            "the weak ones that cost nothing under the budgets.",
            group=_PACE,
        ),
    ] = 0.05

    xi_min: Annotated[
        float,
        setting(
            "Prune every operator with less than this share of its node at once (paper).",
            group=_PACE,
        ),
    ] = 0.01

    lambda0: Annotated[
        float | None,
        setting(
            "Weight of the penalty in the loss. With `pace='paper'` the weight that it starts "
            "with, 1e-5 unless given; with one-shot 2 divided by the number of steps.",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = None

    c0: Annotated[
        float,
        setting(
            "After each epoch that prunes fewer than `n0` operators, the penalty gets a larger "
            "weight. Each such step is this many times the one before it (paper).",
            group=_PACE,
        ),
    ] = 2.0

    t0: Annotated[
        int,
        setting(
            "Record a network that has stayed the same for this many epochs (paper).",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = 3

    mu: Annotated[
        float,
        setting(
            "Weight, in the penalty, of resources that are over budget (paper, one-shot). With "
            "0, all operators are charged alike.",
            group=_PACE,
            bounds=NOT_NEGATIVE,
        ),
    ] = 1.0

    loggers: Loggers = ()

    def __post_init__(self) -> None:
        if not (self.budgets or self.single):
            raise ConfigError(
                "a search needs at least one budget, for example `budgets=['600MFLOPs']`"
            )
        self._resolve()
        check_bounds(self)
        if self.batch_size == 1:
            raise ConfigError("`batch_size` must be at least 2, got 1: batches are normalised")
        if self.amp not in ("off", "bf16"):
            raise ConfigError(f"unknown `amp={self.amp!r}`; known: off, bf16")
        if self.seed >= 2**63:
            raise ConfigError(f"`seed` must be under 2**63, got {self.seed}")
        for field in ("momentum", "weight_decay", "gradient_clip", "check_images"):
            value = getattr(self, field)
            if not 0 <= value < (1 if field == "momentum" else math.inf):
                raise ConfigError(f"`{field}` is out of range: {value}")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"`validation_fraction` must lie in (0, 1), got {self.validation_fraction}"
            )
        if not 0 < self.xi_min < self.xi_max < 1:
            raise ConfigError(
                f"thresholds must satisfy 0 < `xi_min` < `xi_max` < 1, got "
                f"{self.xi_min} and {self.xi_max}"
            )
        if not 1 < self.c0 < math.inf:
            raise ConfigError(
                f"`c0` must be over 1, or the penalty never grows, and finite; got {self.c0}"
            )

    @property
    def split_seed(self) -> int:
        """Decides which images are held out."""
        return self.seed

    def _resolve(self) -> None:
        """Fill in what strategy and pace decide."""
        from goldnas.searching.strategies import resolve_settings

        left = ("levels", "learning_rate", "gate_learning_rate", *_OPTIONAL)
        given = {name: getattr(self, name) for name in left}
        for name, value in resolve_settings(self.strategy, given).items():
            msgspec.structs.force_setattr(self, name, value)
        if self.epochs is None:
            epochs = {"planned": 50, "paper": 1000}[self.pace]
            msgspec.structs.force_setattr(self, "epochs", epochs)


_OPTIONAL = ("pace", "edge_rule", "networks", "score", "storage")
