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

    Where None is given for a setting that the strategy or the pace decides, the struct holds
    what they decide. It is written to ``config.json`` of the run before the first step, so that
    a run can be repeated, and continued, from its folder alone.
    """

    schema_version: Literal[1] = 1

    budgets: Annotated[
        tuple[str, ...],
        setting(
            "What the network may cost: 600MFLOPs, 3Mparams, 5ms, or 5ms@pi5 where there are "
            "several tables. Repeat it for several budgets at once.",
            group=_BUDGET,
            metavar="AMOUNT",
        ),
    ] = ()

    single: Annotated[
        bool,
        setting(
            "Leave exactly one operator at each node, or choice; alone or with budgets.",
            group=_BUDGET,
        ),
    ] = False

    tables: tuple[str, ...] = ()
    """Names of the latency tables, kept in the run's folder."""

    data: Annotated[
        str,
        setting(
            "cifar10, cifar100, fashion-mnist, digits (needs no download), a folder of train/ "
            "and val/ or test/, WebDataset shards (shards/train-{000..099}.tar, or their "
            "folder), an .npz file, or a function, my_module:data.",
            group=_DATA,
            kind="dataset",
        ),
    ] = "digits"

    task: TaskName = None

    data_dir: DataDir = None

    image_size: ImageSize = None

    flip: Annotated[
        bool | None,
        setting("Mirror images at random; by default only those in colour.", group=_DATA),
    ] = None

    crop_padding: Annotated[
        int | None,
        setting(
            "Pixels of the random crop: an eighth of a side.", group=_DATA, bounds=NOT_NEGATIVE
        ),
    ] = None

    cutout: Annotated[
        int,
        setting("Side of Cutout's square, in pixels.", group=_DATA, bounds=NOT_NEGATIVE),
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
            "How to search: gold, one-shot, darts1, darts2, random, evolution, tpe, or another "
            "that goldnas has; `list_strategies` shows what each does.",
            group=_STRATEGY,
            metavar="NAME",
            kind="strategy",
        ),
    ] = "gold"

    levels: Annotated[
        Literal[1, 2],
        setting(
            "1: weights and gates learn from the same images; 2: each from a half of its own, "
            "as in DARTS. 1 unless given or part of the strategy.",
            group=_STRATEGY,
        ),
    ] = None  # type: ignore[assignment]  # the strategy decides

    edge_rule: Annotated[
        bool,
        setting(
            "Cut as DARTS does, to one operator per edge and two edges per node at most.",
            group=_STRATEGY,
        ),
    ] = False

    networks: Annotated[
        int | None,
        setting(
            "Networks to try, where the strategy samples them; 100 at random and 200 "
            "otherwise. A single random network is neither trained nor scored.",
            group=_STRATEGY,
            bounds=POSITIVE,
        ),
    ] = None

    score: Annotated[
        Literal["supernet", "naswot", "synflow"] | None,
        setting(
            "What ranks them. supernet: accuracy on held-out images, or the metric of the "
            "`task`, with weights that `epochs` have trained for all of them. naswot, synflow: "
            "zero-cost proxies, which train nothing.",
            group=_STRATEGY,
        ),
    ] = None

    storage: Annotated[
        str | None,
        setting(
            "Optuna storage, where several searches work on one study (evolution, tpe): "
            "sqlite:///study.db, say.",
            group=_STRATEGY,
            metavar="URL",
        ),
    ] = None

    epochs: Annotated[
        int,
        setting(
            "Passes over the training data, 50 unless given; all budgets hold at the end of "
            "the last. With `pace='paper'` the most there may be, 1000.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = None  # type: ignore[assignment]  # the pace decides

    batch_size: Annotated[
        int,
        setting(
            "Images per step, over all processes; auto for the most that fit the memory, up to "
            "512.",
            group=_TRAINING,
            bounds=POSITIVE,
            metavar="N|auto",
        ),
    ] = 96

    accumulate: Annotated[
        int,
        setting(
            "Parts of a step, one after the other, for less memory; a step learns from as many "
            "images as without.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = 1

    learning_rate: Annotated[
        float,
        setting(
            "Of the weights; 0.05, 0.01 with `pace='paper'`, and 0.025 for DARTS.",
            group=_TRAINING,
            bounds=POSITIVE,
        ),
    ] = None  # type: ignore[assignment]  # strategy and pace decide

    gate_learning_rate: Annotated[
        float,
        setting(
            "Of the gates; 1, and 3e-4 for DARTS, which descends by Adam.",
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
            "Keep less for the backward pass and compute it again: less memory, more time.",
            group=_TRAINING,
        ),
    ] = False

    threads: Threads = None

    pace: Annotated[
        Literal["planned", "paper"],
        setting(
            "planned: every budget holds after `epochs`. paper: Algorithm 1 until they hold.",
            group=_PACE,
        ),
    ] = "planned"

    n0: Annotated[
        int | None,
        setting(
            "Operators pruned at a time; one in a hundred unless given.",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = None

    xi_max: Annotated[
        float,
        setting(
            "Share of its node under which an operator is weak: in the plan, one that spends "
            "nothing of what is budgeted.",
            group=_PACE,
        ),
    ] = 0.05

    xi_min: Annotated[
        float, setting("Share of its node that goes at once (paper).", group=_PACE)
    ] = 0.01

    lambda0: Annotated[
        float | None,
        setting(
            "First step of the penalty's weight; 1e-5 (paper), or from the number of steps.",
            group=_PACE,
            bounds=POSITIVE,
        ),
    ] = None

    c0: Annotated[
        float, setting("Growth of the steps of the penalty's weight (paper).", group=_PACE)
    ] = 2.0

    t0: Annotated[
        int,
        setting("Epochs that make a plateau (paper).", group=_PACE, bounds=POSITIVE),
    ] = 3

    mu: Annotated[
        float,
        setting(
            "Weight of resources over budget beside the uniform penalty.",
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
