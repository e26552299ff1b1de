"""The content of a report on one search, read from its folder."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from goldnas.architecture import Architecture
from goldnas.comparison.history import count_seconds, has_ended
from goldnas.comparison.rows import compare
from goldnas.comparison.runs import ComparedRun
from goldnas.comparison.verdict import write_verdicts
from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.metric import MetricKind
from goldnas.report.layout import SpaceLayout
from goldnas.report.table_facts import TableFacts
from goldnas.report.timeline import Moment, Timeline
from goldnas.resource_names import ENERGY, LATENCY
from goldnas.resources import Budget
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import FrontNetwork
from goldnas.searching.strategies import find_strategy


@dataclass(frozen=True)
class Content:
    """One search."""

    run: ComparedRun
    """What its folder has."""
    budgets: tuple[Budget, ...]
    tables: tuple[LatencyTable, ...]
    architectures: tuple[Architecture, ...]
    """Architectures of the recorded networks, in the order of the front."""
    timeline: Timeline
    untrusted: str
    """Why the code of the space may not run; empty where it may."""

    @classmethod
    def read(cls, path: Path, *, trust: bool = False) -> "Content":
        """Read the folder of a search.

        Args:
            path: Path of the folder.
            trust: Whether the code of its space may run, whoever made the folder.

        Raises:
            RunError: If it is not the folder of a search, or damaged.
        """
        compared = ComparedRun.read(path)
        run = SearchRun.open(path).read()
        run.trusted = trust
        try:
            run.admit("space")
            untrusted = ""
        except ConfigError as error:
            untrusted = str(error)
        return cls(
            run=compared,
            budgets=tuple(run.budgets),
            tables=tuple(run.tables),
            architectures=tuple(
                Architecture.load(path / "architectures" / f"{network.fingerprint}.json")
                for network in compared.networks
            ),
            timeline=Timeline.read(compared.events, path),
            untrusted=untrusted,
        )

    @cached_property
    def layout(self) -> SpaceLayout:
        """The space, as far as it is at hand."""
        return SpaceLayout.find(
            self.run.config,
            self.tables,
            self.architectures,
            self.timeline.gone,
            untrusted=self.untrusted,
        )

    @property
    def networks(self) -> tuple[FrontNetwork, ...]:
        """Those of the front, the cheapest first."""
        return self.run.networks

    @cached_property
    def metric(self) -> MetricKind:
        """The metric of networks: accuracy, unless the task has another metric."""
        return self.run.metric

    @property
    def ended(self) -> bool:
        """Whether the search has ended."""
        return has_ended(self.run.events)

    @property
    def seconds(self) -> float | None:
        """Seconds that the search ran; None if it never began."""
        return count_seconds(self.run.events)

    @property
    def last_event_time(self) -> float | None:
        """Seconds since 1970 at which the log was written last; None if it is empty."""
        return float(self.run.events[-1]["time"]) if self.run.events else None

    @property
    def now(self) -> Moment | None:
        """The last state of the super-network in the log."""
        return self.timeline.moments[-1] if self.timeline.moments else None

    @property
    def samples(self) -> bool:
        """Whether the strategy samples networks, and prunes none."""
        return find_strategy(self.run.config.strategy).networks is not None

    @cached_property
    def contest(self) -> list[str]:
        """The verdicts, if the search is compared with ready-made networks."""
        return write_verdicts(compare([self.run]))

    @property
    def spent(self) -> str:
        """The heading over what operators take: time, energy, or both."""
        kinds = [table.kind for table in self.tables]
        what = "energy" if kinds and LATENCY not in kinds else "time"
        if what == "time" and ENERGY in kinds:
            what = "time and the energy"
        return f"Where the {what} of the network {'go' if ' ' in what else 'goes'}"

    @cached_property
    def verdicts(self) -> tuple[TableFacts, ...]:
        """The facts of each latency table."""
        settings = self.architectures[0].settings if self.architectures else {}
        space = self.architectures[0].space if self.architectures else self.run.config.space
        return tuple(TableFacts.read(table, space, settings) for table in self.tables)
