"""Random networks that cost what the budgets allow, ranked by shared weights or by a proxy.

The shared weights are those of a super-network of which each step trains one random network
that costs what the budgets allow (single path one-shot, arXiv:1904.00420, with any subset of
the operators for a path). A network is scored with the shared weights.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from goldnas.metric import write_metric
from goldnas.ranges import Count
from goldnas.searching.feasibility import Mask
from goldnas.searching.front import Front, FrontNetwork, dominates
from goldnas.searching.recorder import FrontRecorder
from goldnas.searching.sampled import Candidate, NetworkRanking, Proposer, Rank
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.session import Session
from goldnas.searching.strategies.registry import register_strategy
from goldnas.searching.supernet_learner import SupernetLearner

RECORDED = 10
"""Networks, at most, that are kept with their weights."""

TRIES = 20
"""Draws for a network that is new."""


@register_strategy(
    "random",
    description="random networks within the budgets",
    takes={"networks", "score"},
    relaxation="none",
    levels=(1,),
    networks=100,
)
def random(session: Session) -> "SampledSearch":
    """Networks as the sampler draws them."""
    return SampledSearch(session, RandomProposer)


class SampledSearch:
    """Tries networks one by one; the best by score is the best.

    Args:
        session: Of the search.
        proposer: Makes what proposes networks.
    """

    def __init__(
        self, session: Session, proposer: Callable[[Session, BudgetedSampler], Proposer]
    ) -> None:
        self.session = session
        self.sampler = BudgetedSampler(session.feasibility, session.config.seed)
        self.mask: Mask = self.sampler.mask
        """``(G,)``, the network that was trained or scored last."""
        self.learner = SupernetLearner(
            session,
            all_momenta=True,
            at_hand=(lambda: self.mask.copy(), lambda: self.ranking.extract(self.mask)),
        )
        self.ranking = NetworkRanking(session, self.learner)
        self.proposer = proposer(session, self.sampler)
        self.recorder = FrontRecorder(session)
        self.candidates: list[Candidate] = []
        """What was tried, in order."""

    # -- training the shared weights ---------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """Steps of the whole search; none where the score needs no trained weights."""
        steps = self.session.config.epochs * self.session.loop.steps_per_epoch
        return steps if self.ranking.trains else 0

    def finished(self) -> bool:
        """Whether the last epoch is over, or nothing is trained."""
        over = self.session.loop.epoch >= self.session.config.epochs
        return over or not self.ranking.trains

    def describe_start(self) -> dict[str, Any]:
        """How many networks were scored by now."""
        return {"scored": len(self.candidates)}

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights: a cosine to zero."""
        progress = min(1.0, step / max(1, self.total_steps))
        return self.session.config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def train_step(self, step: int, images: Tensor, labels: Tensor, *_: Any) -> Tensor:
        """Train one random network."""
        learner = self.learner
        self.mask = self.sampler.draw()
        # Weights without a gradient are left as they are, momentum and all.
        learner.supernet.zero_grad(set_to_none=True)
        with learner.supernet.restrict(torch.from_numpy(self.mask)):
            learner.supernet.train()
            loss = learner.compute_gradient(images, labels, 0.0)
            learner.optimizer.descend(self.session.loop.learning_rate(step))
        return loss

    def after_step(self, step: int) -> None:
        """Nothing is decided while weights train."""

    def after_epoch(self, step: int) -> None:
        """Nothing is recorded while weights train."""

    # -- trying networks ---------------------------------------------------------------------

    def finish(self) -> Front:
        """Try networks, then record the best, and those that none dominates."""
        assert self.session.config.networks is not None  # the settings see to it
        while len(self.candidates) < self.session.config.networks:
            found = self.proposer.try_next(self.candidates, self._rank)
            if found is None:
                break
            self.candidates.append(found)
            self._tell_of(found)
            self.session.loop.checkpoints.save_if_due()
        self.candidates = self.proposer.all_candidates(self.candidates)
        self._record_best()
        return self.recorder.finish()

    def _rank(self, gates: list[int]) -> float | None:
        self._look_at(gates)
        return self.ranking.rank(self.mask)

    def _look_at(self, gates: list[int]) -> None:
        self.mask = np.zeros(len(self.mask), dtype=bool)
        self.mask[gates] = True

    def _tell_of(self, candidate: Candidate) -> None:
        self._look_at(candidate.gates)
        *others, score = (c.score for c in self.candidates)
        known = [other for other in others if other is not None]
        self.session.emit(
            "score",
            step=self.session.loop.step,
            number=len(self.candidates),
            fingerprint=self.learner.architecture.fingerprint,
            score=score,
            best=score is not None and score > max(known, default=-math.inf),
            meets_budgets=self.session.feasibility.within(self.mask),
            resources=self.session.network_resources(self.mask),
        )

    # -- recording ---------------------------------------------------------------------------

    def _record_best(self) -> None:
        """Record the candidate of the best score, and the best of those that none dominates."""
        ranked: list[tuple[float, dict[str, float], list[int]]] = []
        for candidate in self.candidates:
            self._look_at(candidate.gates)
            if self.session.feasibility.within(self.mask):
                score = -math.inf if candidate.score is None else candidate.score
                needed = self.session.network_resources(self.mask)
                ranked.append((score, needed, candidate.gates))
        ranked.sort(key=lambda entry: -entry[0])
        left = [a for a in ranked if not any(dominates(b[:2], a[:2]) for b in ranked)]
        is_ranked = self.session.config.score is not None
        for place, (score, _, gates) in enumerate(left[:RECORDED]):
            self._look_at(gates)
            reason = f"best of {len(self.candidates)}" if place == 0 else "not dominated"
            self._record(score if is_ranked else None, reason if is_ranked else "random")

    def _record(self, score: float | None, reason: str) -> None:
        session, loop = self.session, self.session.loop
        network = self.ranking.extract(self.mask)
        held_out = None
        if self.ranking.trains:
            held_out = session.score(network, session.data.validation)
        architecture = self.learner.architecture
        recorded = FrontNetwork(
            fingerprint=architecture.fingerprint,
            **write_metric(session.data.task.metric_kind, held_out),
            score=score,
            resources=session.network_resources(self.mask),
            epoch=max(0, loop.epoch - 1),
            step=loop.step,
            reasons=(reason,),
            meets_budgets=True,
        )
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        self.recorder.keep(recorded, architecture, weights)

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The front, the sampler, and what was tried."""
        return {
            "recorder": self.recorder.state_dict(),
            "sampler": self.sampler.state_dict(),
            "gates": np.flatnonzero(self.mask).tolist(),
            "candidates": msgspec.to_builtins(self.candidates),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.recorder.load_state_dict(state["recorder"])
        self.sampler.load_state_dict(state["sampler"])
        self.candidates = msgspec.convert(state["candidates"], list[Candidate])
        for candidate in self.candidates:
            self._look_at(candidate.gates)
        self._look_at(msgspec.convert(state["gates"], list[Count]))
        self.proposer.restart()


class RandomProposer:
    """Proposes what the sampler draws, but nothing twice."""

    def __init__(self, session: Session, sampler: BudgetedSampler) -> None:
        self._sampler = sampler

    def try_next(self, candidates: list[Candidate], rank: Rank) -> Candidate | None:
        """Draw and rank a network; None if the space has hardly another."""
        known = {tuple(candidate.gates) for candidate in candidates}
        for _ in range(TRIES):
            gates = np.flatnonzero(self._sampler.draw()).tolist()
            if tuple(gates) not in known:
                return Candidate(gates, rank(gates))
        return None

    def all_candidates(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those of this search."""
        return candidates

    def restart(self) -> None:
        """Nothing is remembered besides the candidates."""
