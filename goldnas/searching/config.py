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
_TRAINING, _PACE = "Training", "Pruning schedule"


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
            "Most that a network may cost: 600MFLOPs, 3Mparams or 5ms; or 6mJ, by a table of "
            "energies. With several latency tables, 5ms@pi5 names the table, and "
            "5ms@ort,openvino means the one that allows the larger network. By a hot table, "
            "5ms is the undisturbed latency; by a table of a loop, it is p50 of single calls, "
            "and 5ms:p99 is p99. 2MB is the exported file, and 512kB:ram what its activations "
            "take; with :int8 at the end, as in 2MB:int8, they are those in int8. Repeat for "
            "several budgets. All of them hold at the end; the ram of cells is only checked.",
            group=_BUDGET,
            metavar="AMOUNT",
        ),
    ] = ()

    single: Annotated[
        bool,
        setting(
            "Keep exactly one operator at each node or choice, and at most one where a choice "
            "is optional. Works with and without budgets.",
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
            "Mirror training images at random. Default: on for images in colour, off for grey "
            "ones.",
            group=_DATA,
        ),
    ] = None

    crop_padding: Annotated[
        int | None,
        setting(
            "Pixels of padding around an image before the random crop; 0 for none. Default: "
            "an eighth of the image's side.",
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
        setting("Share of the training data that is held out, to score networks.", group=_DATA),
    ] = 0.1

    workers: Workers = None

    strategy: Annotated[
        str,
        setting(
            "Search strategy: gold, one-shot, darts1, darts2, random, evolution, tpe or "
            "another. `list_strategies` describes all of them.",
            group=_STRATEGY,
            metavar="NAME",
            kind="strategy",
        ),
    ] = "gold"

    levels: Annotated[
        Literal[1, 2],
        setting(
            "1: weights and gates learn from the same images. 2: weights learn from one half "
            "of the images and gates from the other, as in DARTS. Default: that of the "
            "strategy.",
            group=_STRATEGY,
        ),
    ] = None  # type: ignore[assignment]  # the strategy decides

    edge_rule: Annotated[
        bool,
        setting(
            "Keep at most one operator per edge and two edges per node, as DARTS does. Always "
            "on in the space darts.",
            group=_STRATEGY,
        ),
    ] = False

    networks: Annotated[
        int | None,
        setting(
            "Networks to try, for strategies that sample networks. Default: 100 with random, "
            "200 with the others. A single random network is neither trained nor scored.",
            group=_STRATEGY,
            bounds=POSITIVE,
        ),
    ] = None

    score: Annotated[
        Literal["supernet", "naswot", "synflow"] | None,
        setting(
            "How to rank sampled networks. supernet: by accuracy (or the metric of the "
            "`task`) on held-out images, with shared weights that are trained for `epochs`. "
            "naswot, synflow: by a zero-cost proxy, without training.",
            group=_STRATEGY,
        ),
    ] = None

    storage: Annotated[
        str | None,
        setting(
            "Optuna storage that lets several searches share one study (evolution, tpe), for "
            "example sqlite:///study.db.",
            group=_STRATEGY,
            metavar="URL",
        ),
    ] = None

    epochs: Annotated[
        int,
        setting(
            "Passes over the training data. Default: 50; all budgets hold after the last "
            "epoch. With `pace='paper'`: at most this many, 1000 by default.",
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
            "Compute each step in this many parts, one after the other, to use less memory. "
            "The number of images per step stays the same.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = 1

    learning_rate: Annotated[
        float,
        setting(
            "Learning rate of the weights. Default: 0.05; with `pace='paper'`, 0.01; with the "
            "DARTS strategies, 0.025.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = None  # type: ignore[assignment]  # strategy and pace decide

    gate_learning_rate: Annotated[
        float,
        setting(
            "Learning rate of the gates, where gates learn. Default: 1; with the DARTS "
            "strategies, which use Adam, 3e-4.",
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
            "Keep fewer activations and compute the others again in the backward pass. This "
            "takes less memory and more time.",
            group=_TRAINING,
        ),
    ] = False

    threads: Threads = None

    pace: Annotated[
        Literal["planned", "paper"],
        setting(
            "Schedule. planned: choose operators by importance, and prune step by step so "
            "that every budget holds after `epochs`. paper: prune as in the paper's Algorithm "
            "1 until every budget holds.",
            group=_PACE,
        ),
    ] = "planned"

    n0: Annotated[
        int | None,
        setting(
            "Operators to prune at a time. Default: a hundredth of all operators.",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = None

    xi_max: Annotated[
        float,
        setting(
            "An operator is weak if its gate has less than this share of its node. With "
            "`pace='paper'`, up to `n0` weak operators are pruned at a time. one-shot prunes "
            "weak operators that cost nothing under the budgets.",
            group=_PACE,
        ),
    ] = 0.05

    xi_min: Annotated[
        float,
        setting(
            "Prune every operator below this share of its node immediately (paper).",
            group=_PACE,
        ),
    ] = 0.01

    lambda0: Annotated[
        float | None,
        setting(
            "Weight of the penalty in the loss. With `pace='paper'`, the weight at the start; "
            "default: 1e-5. With one-shot, default: 2 divided by the number of steps.",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = None

    c0: Annotated[
        float,
        setting(
            "After each epoch that prunes fewer than `n0` operators, the weight of the "
            "penalty increases. Each increase is this many times the previous one (paper).",
            group=_PACE,
        ),
    ] = 2.0

    t0: Annotated[
        int,
        setting(
            "Record a network that has not changed for this many epochs (paper).",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = 3

    mu: Annotated[
        float,
        setting(
            "Weight of resources over budget in the penalty (paper, one-shot). With 0, all "
            "operators are charged alike.",
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
