"""Networks that are tried one by one: what ranks them, and what proposes them."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor, nn

from goldnas.data.examples import to_device
from goldnas.data.loader import read_batches
from goldnas.ranges import Count, Number
from goldnas.searching.feasibility import Mask
from goldnas.searching.session import Session
from goldnas.searching.subnet import extract_subnet, recalibrate
from goldnas.searching.supernet_learner import SupernetLearner
from goldnas.searching.zero_cost import naswot, synflow

RECALIBRATED = 1024
"""Images, at most, that the statistics of a network are taken from."""

NASWOT_IMAGES = 128
"""That the codes of a network are taken from."""

Rank = Callable[[list[int]], float | None]
"""Looks at the network of some gates, by index: its merit, the more the better."""


class Candidate(msgspec.Struct, frozen=True):
    """A network that was tried."""

    gates: list[Count]
    """Of its operators, by index."""
    score: Number | None
    """None where it is the only one, or breaks a budget."""
    trial: dict[str, Any] = {}
    """What a study has to know of it besides."""


class Proposer(Protocol):
    """Proposes networks, given what was tried before."""

    def try_next(self, candidates: list[Candidate], rank: Rank) -> Candidate | None:
        """Propose a network and rank it; None if there is hardly another."""

    def all_candidates(self, candidates: list[Candidate]) -> list[Candidate]:
        """What the best is chosen from, given what this search has tried."""

    def restart(self) -> None:
        """Begin anew with the candidates that a checkpoint has."""


class NetworkRanking:
    """Ranks networks by the weights that they inherit, or by a proxy that trains nothing.

    Args:
        session: Of the search, whose settings say which.
        learner: With the weights.
    """

    def __init__(self, session: Session, learner: SupernetLearner) -> None:
        self._session = session
        self._learner = learner
        self._images: list[Tensor] = []

    @property
    def trains(self) -> bool:
        """Whether the score needs trained weights."""
        return self._session.config.score == "supernet"

    def rank(self, mask: Mask) -> float | None:
        """The score of the network of some gates ``(G,)``; higher is better."""
        session = self._session
        if session.config.score is None:
            return None
        network = self.extract(mask)
        if self.trains:
            score = session.score(network, session.data.check)
            return session.data.task.metric_kind.with_value(score).merit
        return session.loop.ranks.broadcast(lambda: self._proxy(network))

    def extract(self, mask: Mask) -> nn.Module:
        """A network with the shared weights; if those are trained, with its own statistics."""
        loop, supernet = self._session.loop, self._learner.supernet
        with supernet.restrict(torch.from_numpy(mask)):
            network = extract_subnet(supernet, loop.device)
        if self.trains:
            recalibrate(network, self._recalibrating(), loop.device, loop.ranks)
        return network

    def _recalibrating(self) -> list[Tensor]:
        """Training images, the same for every network."""
        if not self._images:
            loader = self._session.data.loader
            batches = -(-RECALIBRATED // loader.images_per_batch)
            some = islice(loader.epoch(0), batches)
            self._images = [images.to(self._session.loop.device) for images, _ in some]
        return self._images

    def _proxy(self, network: nn.Module) -> float:
        session = self._session
        if session.config.score == "synflow":
            return synflow(network, session.space.input_shape)
        images, _ = next(
            read_batches(
                session.data.check, session.data.normalisation, batch_size=NASWOT_IMAGES
            )
        )
        return naswot(network, to_device(images, session.loop.device))
