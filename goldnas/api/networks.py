"""Networks of searches and trainings, as a program gets them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, name_type

if TYPE_CHECKING:
    from torch import nn

    from goldnas.metric import Metric
    from goldnas.searching.baselines import Baseline
    from goldnas.searching.folder import SearchRun
    from goldnas.searching.front import Front, FrontNetwork
    from goldnas.training.folder import TrainingFolder
    from goldnas.training.result import TrainResult


@dataclass(frozen=True, repr=False)
class Network:
    """One network that a search recorded.

    Example:
        >>> best = run.best
        >>> best.meets_budgets
        True
        >>> module = best.build()  # with the weights of the search, in evaluation mode
    """

    folder: "SearchRun"
    """The folder of the search."""
    record: "FrontNetwork"
    """The entry of the search's front."""

    def __repr__(self) -> str:
        return f"Network({self.fingerprint!r} of {str(self.folder.path)!r})"

    def __hash__(self) -> int:
        return hash((self.folder, self.fingerprint))

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of its architecture."""
        return self.record.fingerprint

    @property
    def accuracy(self) -> float | None:
        """Share of the held-out images classified right.

        None if nothing was trained, or the task is not classification.
        """
        return self.record.accuracy

    @property
    def metric(self) -> "Metric | None":
        """The metric of its task on held-out items: the accuracy, for classification.

        None if nothing was trained.
        """
        return self.record.figure

    @property
    def resources(self) -> dict[str, float]:
        """FLOPs, parameters, microseconds on each device, and bytes, by name."""
        return self.record.resources

    @property
    def meets_budgets(self) -> bool:
        """Whether it is within every budget."""
        return self.record.meets_budgets

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was recorded."""
        return self.record.reasons

    @property
    def dominated(self) -> bool:
        """Whether another network is at least as good in everything and better in something."""
        return self.record.dominated

    @property
    def architecture(self) -> Architecture:
        """Which operators it keeps.

        Raises:
            RunError: If its file is missing or damaged.
        """
        return self.folder.architecture(self.record)

    def build(self, *, trained: bool = True) -> "nn.Module":
        """Build it, in evaluation mode.

        Args:
            trained: If true, with the weights and gates of the search. If false, with fresh
                weights and without gates.

        Returns:
            A module from ``(B, C, H, W)``, normalised, to ``(B, classes)`` logits.

        Raises:
            RunError: If its files are missing or damaged.
        """
        if trained:
            return self.folder.network(self.record)
        from goldnas.spaces import find_space

        return find_space(self.architecture).build(self.architecture).eval()


@dataclass(frozen=True, repr=False)
class ReadyMadeNetwork:
    """A ready-made network that a search is compared with.

    :func:`goldnas.train` trains it like a network of the search.
    """

    folder: "SearchRun"
    """The folder of the search."""
    record: "Baseline"
    """Its measurements, and its counts for the data of the search."""

    def __repr__(self) -> str:
        return f"ReadyMadeNetwork({self.name!r} of {str(self.folder.path)!r})"

    @property
    def name(self) -> str:
        """``torchvision/resnet18``."""
        return self.record.network

    @property
    def resources(self) -> dict[str, float]:
        """FLOPs, parameters, and the measured latency in microseconds, by name."""
        return self.record.resources

    @property
    def architecture(self) -> Architecture:
        """Its architecture, for the images and the classes of the search."""
        return self.record.architecture


@dataclass(frozen=True, repr=False)
class TrainedNetwork:
    """One network after its training.

    Example:
        >>> trained.epochs
        2
        >>> 0 <= trained.accuracy <= 1
        True
        >>> module = trained.build()
    """

    folder: "TrainingFolder"
    """The folder of the training."""
    result: "TrainResult"
    """The result of the training."""

    def __repr__(self) -> str:
        return f"TrainedNetwork({self.fingerprint!r} in {str(self.path)!r})"

    def __hash__(self) -> int:
        return hash((self.folder, self.fingerprint))

    @property
    def path(self) -> Path:
        """The folder of the training."""
        return self.folder.path

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of its architecture."""
        return self.result.fingerprint

    @property
    def accuracy(self) -> float | None:
        """Share of the test set classified right after the last epoch.

        None if the task is not classification.
        """
        return self.result.test_accuracy

    @property
    def metric(self) -> "Metric":
        """The metric of its task on the test set: the accuracy, for classification."""
        return self.result.test

    @property
    def resources(self) -> dict[str, float]:
        """FLOPs, parameters, and predicted microseconds, by name."""
        return self.result.resources

    @property
    def epochs(self) -> int:
        """Passes over the training data."""
        return self.result.epochs

    @property
    def architecture(self) -> Architecture:
        """Which operators it keeps."""
        return self.folder.architecture

    def build(self) -> "nn.Module":
        """Build it with its weights, in evaluation mode.

        Returns:
            A module from ``(B, C, H, W)``, normalised, to ``(B, classes)`` logits.

        Raises:
            RunError: If a file is damaged.
        """
        return self.folder.network()


@dataclass(frozen=True, repr=False)
class NetworkFront(Sequence[Network]):
    """The networks that a search recorded, the cheapest first.

    Example:
        >>> len(run.front) >= 1
        True
        >>> run.front.pick("best") == run.best
        True
    """

    folder: "SearchRun"
    """The folder of the search."""
    record: "Front"
    """The front as the search recorded it."""

    def __repr__(self) -> str:
        return f"NetworkFront({len(self)} of {str(self.folder.path)!r})"

    def __len__(self) -> int:
        return len(self.record.networks)

    @overload
    def __getitem__(self, index: int) -> Network: ...

    @overload
    def __getitem__(self, index: slice) -> list[Network]: ...

    def __getitem__(self, index: int | slice) -> Network | list[Network]:
        if isinstance(index, slice):
            return [Network(self.folder, record) for record in self.record.networks[index]]
        return Network(self.folder, self.record.networks[index])

    def __iter__(self) -> Iterator[Network]:
        return (Network(self.folder, record) for record in self.record.networks)

    @property
    def budgets(self) -> dict[str, float]:
        """Limits in FLOPs, parameters, microseconds, microjoules and bytes, by resource."""
        return self.record.budgets

    def pick(self, which: str | int = "best") -> Network:
        """Choose a network.

        Args:
            which: ``best`` for the most accurate within all budgets, a number counted from 1,
                or a fingerprint or the start of one.

        Raises:
            RunError: If there is no such network.
        """
        return Network(self.folder, self.record.pick(str(which)))

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each network: its metric, its resources, why it was recorded."""
        return [
            {
                "fingerprint": network.fingerprint,
                (network.metric.name if network.metric else "accuracy"): (
                    network.metric and network.metric.value
                ),
                **network.resources,
                "meets_budgets": network.meets_budgets,
                "dominated": network.dominated,
                "reasons": ", ".join(network.reasons),
            }
            for network in self
        ]

    def to_frame(self) -> Any:
        """The rows of :meth:`to_dicts` as a data frame of pandas.

        Raises:
            ConfigError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError(
                "a data frame needs pandas, which is not installed: pip install pandas, or "
                "take to_dicts()"
            ) from None
        return pandas.DataFrame(self.to_dicts())


def find_architecture(network: Any) -> Architecture:
    """The architecture of whatever stands for a network.

    Args:
        network: Of a search or a training, an architecture, or the file of one.

    Raises:
        ConfigError: If it is anything else.
    """
    if isinstance(network, Architecture):
        return network
    if isinstance(network, str | Path):
        return Architecture.load(Path(network))
    if isinstance(network, Network | TrainedNetwork):
        return network.architecture
    raise ConfigError(
        f"{name_type(network)} is not a network: give one of a search (run.best), of a "
        "training, or an architecture"
    )
