"""Strategies that sample networks, and rank them by shared weights or by a proxy.

The shared weights are those of a super-network of which each step trains one random network
that costs what the budgets allow (single path one-shot, arXiv:1904.00420, with any subset of
the operators for a path). A network is scored with the weights it inherits.
"""

import math
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples, to_device
from goldnas.data.loader import evaluation_batches
from goldnas.searching.feasibility import Mask
from goldnas.searching.front import FrontNetwork, dominates
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.strategies.engine import SupernetSearch
from goldnas.searching.subnet import inherited, recalibrate
from goldnas.searching.zero_cost import naswot, synflow


class Candidate(msgspec.Struct, frozen=True):
    """A network that was tried."""

    gates: list[int]
    """Of its operators, by index."""
    score: float | None
    """None where it is the only one, or breaks a budget."""
    trial: dict[str, Any] = {}
    """What a study has to know of it besides."""


class SampledSearch(SupernetSearch):
    """Random networks that cost what the budgets allow; the best by score is the best."""

    RECORDED = 10
    """Networks, at most, that are kept with their weights."""

    RECALIBRATED = 1024
    """Images, at most, that the statistics of a network are taken from."""

    NASWOT_IMAGES = 128
    """That the codes of a network are taken from."""

    TRIES = 20
    """Draws for a network that is new."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.config.samples is not None  # the settings see to it
        self.samples: int = self.config.samples
        self.candidates: list[Candidate] = []
        """What was tried, in order."""
        self._images: list[Tensor] = []

    def _build(self) -> None:
        self.sampler = BudgetedSampler(self.feasibility, self.config.seed)
        self.mask: Mask = self.sampler.mask
        """``(G,)``, the network that was trained or scored last."""
        super()._build()
        # A fused optimiser wants a momentum of every weight, or of none.
        for weight in self.weights_optimizer.param_groups[0]["params"]:
            self.weights_optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    # -- training the shared weights ---------------------------------------------------------

    @property
    def trains(self) -> bool:
        """Whether the score needs trained weights."""
        return self.config.score == "supernet"

    @property
    def total_steps(self) -> int:
        """Steps of the whole search."""
        return super().total_steps if self.trains else 0

    def _finished(self) -> bool:
        return super()._finished() or not self.trains

    def planned_learning_rate(self, step: int) -> float:
        """Of the weights at this step: a cosine to zero."""
        progress = min(1.0, step / max(1, self.total_steps))
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def _train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        self.mask = self.sampler.draw()
        # Weights without a gradient are left as they are, momentum and all.
        self.supernet.zero_grad(set_to_none=True)
        with self.supernet.restricted(torch.from_numpy(self.mask)):
            return super()._train_step(step, images, labels)

    def _of_start(self) -> dict[str, Any]:
        return super()._of_start() | {"scored": len(self.candidates)}

    # -- the network at hand -----------------------------------------------------------------

    @property
    def active(self) -> Mask:
        """The gates of the network that was trained or scored last, ``(G,)``."""
        return self.mask.copy()

    def _architecture(self) -> Architecture:
        space = self.data.space
        return space.architecture(space.gates[i] for i in np.flatnonzero(self.mask))

    def _network(self) -> nn.Module:
        """It, with the weights that it inherits and, if those are trained, its statistics."""
        with self.supernet.restricted(torch.from_numpy(self.mask)):
            network = inherited(self.supernet, self.device)
        if self.trains:
            recalibrate(network, self._recalibrating(), self.device, self.ranks)
        return network

    def _recalibrating(self) -> list[Tensor]:
        """Training images, the same for every network."""
        if not self._images:
            loader = self.data.loader
            batches = -(-self.RECALIBRATED // loader.images_per_batch)
            some = islice(loader.epoch(0), batches)
            self._images = [images.to(self.device) for images, _ in some]
        return self._images

    def _score(self, data: Examples) -> float:
        return self.scorer.score(self._network(), data)

    # -- sampling ----------------------------------------------------------------------------

    def _after_training(self) -> None:
        """Try networks one by one, then record the best, and those that none dominates."""
        while len(self.candidates) < self.samples and (found := self._next()) is not None:
            self.candidates.append(found)
            self._tell_of(found)
            self._save_if_due()
        self._record_best()

    def _next(self) -> Candidate | None:
        """Draw and score one network; None if the space has hardly another."""
        known = {tuple(candidate.gates) for candidate in self.candidates}
        for _ in range(self.TRIES):
            gates = np.flatnonzero(self.sampler.draw()).tolist()
            if tuple(gates) not in known:
                return Candidate(gates, self._merit(gates))
        return None

    def _merit(self, gates: list[int]) -> float | None:
        """What a network is ranked by, the more the better."""
        self._look_at(gates)
        if self.config.score is None:
            return None
        network = self._network()
        if self.config.score == "supernet":
            return self.data.task.measured(self.scorer.score(network, self.data.check)).merit
        return self.ranks.broadcast(lambda: self._proxy(network))

    def _proxy(self, network: nn.Module) -> float:
        if self.config.score == "synflow":
            return synflow(network, self.data.space.input_shape)
        images, _ = next(
            evaluation_batches(
                self.data.check, self.data.normalisation, batch_size=self.NASWOT_IMAGES
            )
        )
        return naswot(network, to_device(images, self.device))

    def _look_at(self, gates: list[int]) -> None:
        self.mask = np.zeros(len(self.mask), dtype=bool)
        self.mask[gates] = True

    def _tell_of(self, candidate: Candidate) -> None:
        self._look_at(candidate.gates)
        *others, score = (c.score for c in self.candidates)
        known = [other for other in others if other is not None]
        self._event(
            "score",
            step=self.step,
            number=len(self.candidates),
            fingerprint=self._architecture().fingerprint,
            score=score,
            best=score is not None and score > max(known, default=-math.inf),
            meets_budgets=self.feasibility.within(self.mask),
            resources=self._resources(),
        )

    # -- recording ---------------------------------------------------------------------------

    def _record_best(self) -> None:
        """Record the candidate of the best score, and the best of those that none dominates."""
        ranked: list[tuple[float, dict[str, float], list[int]]] = []
        for candidate in self.candidates:
            self._look_at(candidate.gates)
            if self.feasibility.within(self.mask):
                score = -math.inf if candidate.score is None else candidate.score
                ranked.append((score, self._resources(), candidate.gates))
        ranked.sort(key=lambda entry: -entry[0])
        left = [a for a in ranked if not any(dominates(b[:2], a[:2]) for b in ranked)]
        for place, (score, _, gates) in enumerate(left[: self.RECORDED]):
            self._look_at(gates)
            reason = f"best of {len(self.candidates)}" if place == 0 else "not dominated"
            self._record_sampled(*((score, reason) if self.config.score else (None, "random")))

    def _record_sampled(self, score: float | None, reason: str) -> None:
        architecture, network = self._architecture(), self._network()
        held_out = self.scorer.score(network, self.data.validation) if self.trains else None
        recorded = FrontNetwork(
            fingerprint=architecture.fingerprint,
            **self._scored(held_out),
            score=score,
            resources=self._resources(),
            epoch=max(0, self.epoch - 1),
            step=self.step,
            reasons=(reason,),
            meets_budgets=True,
        )
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        self._keep(recorded, architecture, weights)

    # -- state -------------------------------------------------------------------------------

    def _own_state(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.state(),
            "gates": np.flatnonzero(self.mask).tolist(),
            "candidates": msgspec.to_builtins(self.candidates),
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        self.sampler.restore(state["sampler"])
        self._look_at(state["gates"])
        self.candidates = msgspec.convert(state["candidates"], list[Candidate])
