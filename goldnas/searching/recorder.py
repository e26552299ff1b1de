"""Recording networks on the front of a search."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from goldnas.architecture import Architecture
from goldnas.metric import write_metric
from goldnas.resource_names import read_precision
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.session import Session
from goldnas.searching.supernet_learner import SupernetLearner


class _RecorderState(msgspec.Struct, forbid_unknown_fields=True):
    front: Front
    met: list[str]
    recorded: str


class FrontRecorder:
    """Writes networks down: their files, the front, the log.

    Args:
        session: Of the search.
        recalibrate: Whether a network is recorded with statistics of its own, and not with
            those that the super-network has.
        start: What the network that a search begins with needs, by resource; the super-network
            unless given.
    """

    def __init__(
        self,
        session: Session,
        *,
        recalibrate: bool = False,
        start: Mapping[str, float] | None = None,
    ) -> None:
        self._session = session
        self._recalibrate = recalibrate
        budgets = session.feasibility.budgets
        self.front = Front(budgets={b.resource: b.limit for b in budgets})
        self.recorded = ""
        """Fingerprint of the network recorded last."""
        if start is None:
            start = session.resources(np.ones(len(session.space.gates), dtype=bool))
        self._met = set(self._budgets_met(start))

    def newly_met(self, learner: SupernetLearner) -> list[str]:
        """The budgets that hold now and never held before, as they were typed."""
        met = self._budgets_met(self._session.resources(learner.mask))
        fresh = [text for text in met if text not in self._met]
        self._met |= set(fresh)
        return fresh

    @property
    def unmet(self) -> list[str]:
        """The budgets that never held."""
        return [b.text for b in self._session.feasibility.budgets if b.text not in self._met]

    def record(self, learner: SupernetLearner, step: int, reasons: list[str]) -> None:
        """Record the network that is left, with its weights, exact resources and score."""
        session, mask = self._session, learner.mask
        architecture = learner.architecture
        if self._recalibrate:
            left = learner.recalibrated()
            score = session.score(left, session.data.validation)
            weights = {name: value.cpu() for name, value in left.state_dict().items()}
        else:
            score = learner.score(session.data.validation)
            weights = learner.supernet.network_state()
        resources = session.network_resources(mask)
        network = FrontNetwork(
            fingerprint=architecture.fingerprint,
            **write_metric(session.data.task.metric_kind, score),
            resources=resources,
            epoch=max(0, step // session.loop.steps_per_epoch),
            step=step + 1,
            reasons=tuple(reasons),
            meets_budgets=session.meets_budgets(resources),
        )
        self.keep(network, architecture, weights)

    def keep(
        self, network: FrontNetwork, architecture: Architecture, weights: dict[str, Tensor]
    ) -> None:
        """Write a network down, with what its file needs where a budget is of files."""
        network = self._with_file(network, architecture, weights)
        if self._session.loop.ranks.first:
            self._session.run.save_network(architecture, weights)
        self.front = self.front.with_network(network)
        self.save()
        self.recorded = network.fingerprint
        self._session.emit("network", **msgspec.to_builtins(network))

    def _with_file(
        self, network: FrontNetwork, architecture: Architecture, weights: dict[str, Tensor]
    ) -> FrontNetwork:
        """The network with the resources of the file that its export writes."""
        session = self._session
        budgets = session.feasibility.budgets
        names = [b.resource for b in budgets if read_precision(b.resource) is not None]
        if not names:
            return network
        from goldnas.exporting.file_costs import count_file
        from goldnas.exporting.onnx import describe_network

        def count() -> dict[str, float]:
            with torch.random.fork_rng(devices=[]):
                module = session.space.build(architecture, gated=True)
            module.load_state_dict(weights)
            metadata = describe_network(architecture.to_json().decode(), session.run.conditions)
            return count_file(module, session.space.input_shape, names, metadata)

        resources = network.resources | session.loop.ranks.broadcast(count)
        over = [
            b.text
            for b in budgets
            if network.resources[b.resource] <= b.limit < resources[b.resource]
        ]  # which only the file shows
        reasons = [r for r in network.reasons if r.removeprefix("met ") not in over]
        return msgspec.structs.replace(
            network,
            resources=resources,
            meets_budgets=network.meets_budgets and not over,
            reasons=(*reasons, *(f"over {text}" for text in over)),
        )

    def save(self) -> None:
        """Write the front."""
        if self._session.loop.ranks.first:
            self._session.run.save_front(self.front)

    def finish(self) -> Front:
        """Write the front, and say in the log that the search is over."""
        self.save()
        self._session.emit(
            "end", epoch=self._session.loop.epoch, networks=len(self.front.networks)
        )
        return self.front

    def state_dict(self) -> dict[str, Any]:
        """The front, the budgets that held, what was recorded last."""
        return {
            "front": msgspec.to_builtins(self.front),
            "met": sorted(self._met),
            "recorded": self.recorded,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        mine = msgspec.convert(state, _RecorderState)
        if mine.front.budgets != self.front.budgets:
            raise ValueError(f"its budgets are {mine.front.budgets}")
        self.front, self._met, self.recorded = mine.front, set(mine.met), mine.recorded

    def _budgets_met(self, resources: Mapping[str, float]) -> list[str]:
        budgets = self._session.feasibility.budgets
        return [b.text for b in budgets if resources[b.resource] <= b.limit]
