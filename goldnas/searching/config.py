"""Settings of a search: everything that decides its result."""

import math
from typing import Any, Literal, Protocol

import msgspec

from goldnas.errors import ConfigError
from goldnas.searching.strategies import check_strategy


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


class SearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one search, with the symbols of GOLD-NAS (arXiv:2007.03331, Algorithm 1).

    Written to ``config.json`` of the run before the first step, so that a run can be
    repeated, and continued, from its folder alone.
    """

    schema_version: Literal[1] = 1

    data: str = "digits"
    """Name of a dataset, path of a folder or an ``.npz``, or ``package.module:function``."""

    task: str | None = None
    """``package.module:function`` of what is learnt; None for classification."""

    data_dir: str | None = None
    """Where named datasets are kept, or downloaded to."""

    image_size: int | None = None
    """Side that the images of a folder are resized to."""

    space: str = "gold"
    """Name of a registered one, or ``package.module:function``."""

    settings: dict[str, Any] = {}
    """Arguments of the function, besides what it is told of the data."""

    strategy: str = "gold"
    """How the space is searched: one of goldnas.searching.strategies."""

    levels: Literal[1, 2] = 1
    """On 1, weights and gates learn from the same images, as in GOLD-NAS; on 2, as in DARTS,
    each from a half of their own."""

    edge_rule: bool = False
    """Whether a cut leaves one operator per edge and two edges per node at most, as DARTS."""

    samples: int | None = None
    """Networks that a strategy that samples tries; None for one that does not."""

    score: Literal["supernet", "naswot", "synflow"] | None = None
    """What ranks them: the accuracy with shared weights, or a proxy that needs no training.
    None for a single random network, of which nothing is trained."""

    storage: str | None = None
    """URL of an Optuna storage that several searches share; None to keep the study here."""

    cells: int | None = None
    """None for as many as the space says, as for the next two; the run's folder says which."""

    channels: int | None = None

    operators: tuple[str, ...] | None = None

    single: bool = False
    """Whether each node, or choice, keeps exactly one operator: a budget of its own kind."""

    budgets: tuple[str, ...] = ()
    """As typed: ``600MFLOPs``, ``3Mparams``, ``5ms@pi5``."""

    tables: tuple[str, ...] = ()
    """Names of the latency tables, kept in the run's folder."""

    pace: Literal["planned", "paper"] = "planned"
    """``planned`` meets every budget by the last epoch; ``paper`` is Algorithm 1."""

    epochs: int = 50
    """Passes over the training data; with the pace ``paper`` the most there may be."""

    batch_size: int = 96
    """Images that a step learns from, over all parts and all processes."""

    accumulate: int = 1
    """Parts, one after the other, that a process divides its images of a step into."""

    learning_rate: float = 0.05
    """Of the weights."""

    momentum: float = 0.9
    """Of weights and gates."""

    weight_decay: float = 3e-4
    """Of the weights; the gates have none."""

    gradient_clip: float = 5.0
    """Largest norm of the weights' gradient."""

    gate_learning_rate: float = 1.0

    auxiliary_weight: float = 0.4
    """Of the auxiliary head's loss, in a space of cells; 0 builds none."""

    mu: float = 1.0
    """Weight of each resource that is over its budget beside the uniform term of the
    penalty. A resource is scaled to a mean of 1 per gate, so that no unit matters."""

    n0: int | None = None
    """Operators pruned at a time; None for one in a hundred (4 of the paper's 392)."""

    xi_max: float = 0.05
    """Share of its node under which an operator is weak: it may be pruned (``paper``), or goes
    if it spends nothing of what is budgeted (``planned``, and where a strategy cuts)."""

    xi_min: float = 0.01
    """Share of its node under which an operator is pruned at once (``paper``)."""

    lambda0: float | None = None
    """First step of the penalty (``paper``: 1e-5), or where it starts (``planned``: one over
    the steps between the first pruning and the last)."""

    c0: float = 2.0
    """Factor by which the penalty's steps grow, and by which it relaxes (``paper``)."""

    t0: int = 3
    """Epochs without pruning that make a plateau (``paper``)."""

    crop_padding: int | None = None
    """Pixels of padding for the random crop; None for what suits the data."""

    flip: bool | None = None
    """Whether to mirror images at random; None for what suits the data."""

    cutout: int = 0
    """Side of the square that Cutout blanks, in pixels; 0 for none."""

    autoaugment: bool = False
    """Whether to apply AutoAugment's policy for CIFAR-10."""

    validation_fraction: float = 0.1
    """Share of the training data held out to score networks."""

    check_images: int = 1000
    """Held-out images, at most, that score a network before and after each pruning."""

    seed: int = 0

    workers: int | None = None
    """Processes that load images; None for what suits the data. No result depends on it."""

    train_device: str = "auto"
    """``cuda``, ``mps``, ``cpu``, or ``auto`` for the first of these there is."""

    amp: Literal["off", "bf16"] = "off"
    """Number format of the forward and backward pass; weights, statistics and losses stay in
    fp32."""

    checkpointing: bool = False
    """Whether the backward pass computes the inside of cells again instead of keeping it."""

    threads: int | None = None
    """CPU threads of the training; None for torch's own choice."""

    loggers: tuple[str, ...] = ()
    """Where figures go besides the folder: names of goldnas.loggers, or
    ``package.module:function``. No result depends on it."""

    def __post_init__(self) -> None:
        if not (self.budgets or self.single):
            raise ConfigError(
                "a search needs at least one budget, for example --budget 600MFLOPs"
            )
        check_strategy(
            self.strategy,
            levels=self.levels,
            pace=self.pace,
            rule=self.edge_rule,
            samples=self.samples,
            score=self.score,
            storage=self.storage,
        )
        positive = (
            "epochs",
            "batch_size",
            "accumulate",
            "learning_rate",
            "gate_learning_rate",
            "n0",
            "lambda0",
            "t0",
            "check_images",
            "threads",
            "gradient_clip",
            "image_size",
            "samples",
        )
        for field in positive:
            value = getattr(self, field)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{field} must be positive and finite, got {value}")
        not_negative = (
            "auxiliary_weight",
            "mu",
            "weight_decay",
            "cutout",
            "crop_padding",
            "workers",
            "seed",
        )
        for field in not_negative:
            value = getattr(self, field)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{field} must be 0 or more, and finite, got {value}")
        if self.batch_size == 1:
            raise ConfigError("batch_size must be at least 2, got 1: batches are normalised")
        if self.seed >= 2**63:
            raise ConfigError(f"seed must be under 2**63, got {self.seed}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction must lie in (0, 1), got {self.validation_fraction}"
            )
        if not 0 < self.xi_min < self.xi_max < 1:
            raise ConfigError(
                f"thresholds must satisfy 0 < xi_min < xi_max < 1, got "
                f"{self.xi_min} and {self.xi_max}"
            )
        if not 1 < self.c0 < math.inf:
            raise ConfigError(
                f"c0 must be over 1, or the penalty never grows, and finite; got {self.c0}"
            )
