"""The GOLD-NAS search (arXiv:2007.03331): train weights and gates together, prune gradually."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, count, islice
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.architecture import Architecture
from goldnas.errors import RunError
from goldnas.resources import Budget
from goldnas.search.feasibility import Feasibility, Mask
from goldnas.search.front import Front, FrontNetwork
from goldnas.search.memory import step_memory, take_peak_bytes
from goldnas.search.pacing import GateWeights, Pace, PaperPace, PlannedPace, weakest_over
from goldnas.search.run import SearchRun
from goldnas.search.setup import SearchData, autocast_for, supernet_for
from goldnas.training.data import ImageData
from goldnas.training.evaluate import accuracy

Observer = Callable[[str, dict[str, Any]], None]
"""Told the name of an event and its fields: those of the log, and ``step`` after each step."""


class GradualSearch:
    """One search: a super-network that becomes a network, recorded in a run's folder.

    Everything that decides what comes next is in :meth:`state`, which is saved after each
    epoch: on the CPU a continued search ends in the same bits as one that was not stopped.
    """

    BEYOND = (0.97, 0.94, 0.91, 0.88, 0.85)
    """Shares of the budgets at which the front goes on below them."""

    def __init__(
        self,
        run: SearchRun,
        data: SearchData,
        feasibility: Feasibility,
        device: torch.device,
    ) -> None:
        self.run = run
        self.config = config = run.config
        self.data = data
        self.feasibility = feasibility
        self.device = device
        self.observer: Observer = lambda event, fields: None

        torch.manual_seed(config.seed)
        space = data.space
        self.supernet = supernet_for(config, space, device)
        self.weights_optimizer = torch.optim.SGD(
            (p for p in self.supernet.parameters() if p is not self.supernet.alpha),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,  # one pass over all weights, where there are hundreds of small ones
        )
        self.gates_optimizer = torch.optim.SGD(
            [self.supernet.alpha], lr=config.gate_learning_rate, momentum=config.momentum
        )
        self.steps_per_epoch = len(data.loader)
        gates = len(space.gates)
        self.pace: Pace = (
            PaperPace(config, feasibility, self.steps_per_epoch, gates)
            if config.pace == "paper"
            else PlannedPace(config, feasibility, config.epochs * self.steps_per_epoch, gates)
        )
        self.gate_costs = self._gate_costs()
        self.epoch = 0
        self.front = Front(budgets={b.resource: b.limit for b in feasibility.budgets})
        self.met: set[str] = {b.text for b in self._met_budgets()}
        self.recorded: str = ""
        """Fingerprint of the network recorded last."""

    # -- the loop ----------------------------------------------------------------------------

    def search(self) -> Front:
        """Search until the budgets are met and the plan, or Algorithm 1, is at its end.

        Raises:
            RunError: If the loss is not finite, or the last epoch leaves a budget unmet.
            WriteError: If the disk refuses.
        """
        ended = [event["event"] for event in self.run.events()[-1:]] == ["end"]
        if ended and self.run.has_front:  # else what is left to do comes out the same again
            return self.run.front()
        resources = self._resources()
        self.run.log(
            "start", epoch=self.epoch, resources=resources, memory_bytes=self.step_bytes()
        )
        while not self._finished():
            began = time.monotonic()
            loss = self._train_epoch()
            self._end_epoch(loss, seconds=time.monotonic() - began)
        if not self.feasibility.within(self.active):
            unmet = [b.text for b in self.feasibility.budgets if b.text not in self.met]
            raise RunError(
                f"{self.config.epochs} epochs ended over budget: {', '.join(unmet)}. "
                "Algorithm 1 has no deadline: allow more --epochs, or use --pace planned"
            )
        self._go_beyond()
        self._event("end", epoch=self.epoch, networks=len(self.front.networks))
        return self.front

    def _finished(self) -> bool:
        if self.config.pace == "paper" and self.epoch > 0:
            done = self.feasibility.within(self.active)
            return done or self.epoch >= self.config.epochs
        return self.epoch >= self.config.epochs

    def _train_epoch(self) -> float:
        """One pass over the training data; return its mean classification loss."""
        losses: list[Tensor] = []
        first = self.epoch * self.steps_per_epoch
        for step, (images, labels) in enumerate(self.data.loader.epoch(self.epoch), first):
            losses.append(self._train_step(step, images, labels))
            self.observer("step", {"epoch": self.epoch, "step": step + 1})
            if self.pace.due(step):
                self._prune(step)
        return float(torch.stack(losses).mean())

    def _train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """One descent on weights and gates together; return the classification loss."""
        config = self.config
        self.supernet.train()
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        with autocast_for(config, self.device):
            logits, auxiliary = self.supernet(images)
            loss = classification = F.cross_entropy(logits, labels)
            if auxiliary is not None:
                loss = loss + config.auxiliary_weight * F.cross_entropy(auxiliary, labels)
        if (strength := self.pace.strength(step)) > 0:
            loss = loss + strength * self.supernet.pressure(self.gate_costs)
        for group in self.weights_optimizer.param_groups:
            group["lr"] = self.pace.learning_rate(step)
        self.weights_optimizer.zero_grad(set_to_none=True)
        self.gates_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(
            self.weights_optimizer.param_groups[0]["params"], config.gradient_clip, foreach=True
        )
        self.weights_optimizer.step()
        self.gates_optimizer.step()
        return classification.detach()

    def _gate_costs(self) -> Tensor:
        """What the pressure charges each gate: 1, and its share of what is over budget.

        Each resource is scaled to a mean of 1 per gate; one within its budget is left out.
        """
        costs = np.ones(len(self.data.space.gates))
        for budget in self.feasibility.budgets:
            resource = self.feasibility.costs[budget.resource]
            if resource.total(self.active) > budget.limit:
                costs += self.config.mu * resource.gates / max(resource.gates.mean(), 1e-12)
        return torch.as_tensor(costs, dtype=torch.float32, device=self.device)

    # -- pruning -----------------------------------------------------------------------------

    @property
    def active(self) -> Mask:
        """The gates that are left, ``(G,)``."""
        mask: Mask = self.supernet.active.cpu().numpy()
        return mask

    def _prune(self, step: int) -> None:
        weights = self._gate_weights()
        chosen = self.pace.choose(step, weights, self.active)
        if not chosen:
            return
        if self.pace.plateau:
            self._record(step, ["plateau"])
        self._remove("prune", step, chosen, weights)
        newly_met = [b.text for b in self._met_budgets() if b.text not in self.met]
        if newly_met:
            self.met |= set(newly_met)
            self._record(step, [f"met {text}" for text in newly_met])

    def _go_beyond(self) -> None:
        """Carry the front on below the budgets: what a tighter budget would have left.

        After the last epoch one more tenth of the steps is shared out between the levels of
        :attr:`BEYOND`. At each, weak operators go one at a time while the rest trains on.
        """
        first = self.epoch * self.steps_per_epoch
        batches = chain.from_iterable(map(self.data.loader.epoch, count(self.epoch)))
        segment = max(1, first // 10 // len(self.BEYOND))
        for level, share in enumerate(self.BEYOND):
            budgets = [replace(b, limit=share * b.limit) for b in self.feasibility.budgets]
            costs = list(self.feasibility.costs.values())
            tighter = Feasibility(self.data.space, costs, budgets)
            if tighter.find(self.active) is None:
                return
            weights = self._gate_weights()
            limits = {budget.resource: budget.limit for budget in budgets}
            chosen = weakest_over(tighter, limits, weights.relative, self.active)
            if not chosen:
                continue
            # Even gaps over the first half of the segment; what is left after it goes at once.
            gap = max(1, segment // (2 * len(chosen)))
            start = first + level * segment
            for step, (images, labels) in enumerate(islice(batches, segment), start):
                if (step - start) % gap == 0 and chosen:
                    self._remove("beyond", step, [chosen.pop(0)], weights)
                self._train_step(step, images, labels)
            for index in chosen:
                self._remove("beyond", start + segment - 1, [index], weights)
            self._record(start + segment - 1, ["beyond"])

    def _gate_weights(self) -> GateWeights:
        with torch.no_grad():
            return GateWeights(
                normalised=self.supernet.normalised_weights().cpu().double().numpy(),
                relative=self.supernet.relative_weights().cpu().double().numpy(),
            )

    def _remove(self, event: str, step: int, chosen: list[int], weights: GateWeights) -> None:
        """Prune operators, and log the accuracy before and after."""
        before = self._accuracy(self.data.check)
        removed = {id(parameter) for parameter in self.supernet.prune(chosen)}
        self._forget(removed)
        self.gate_costs = self._gate_costs()
        gates = self.data.space.gates
        self._event(
            event,
            epoch=step // self.steps_per_epoch,
            step=step + 1,
            operators=[gates[index].name for index in chosen],
            relative_weights=[round(float(weights.relative[i]), 4) for i in chosen],
            accuracy_before=before,
            accuracy_after=self._accuracy(self.data.check),
            pressure=self.pace.strength(step),
            live_operators=int(self.active.sum()),
            resources=self._resources(),
        )

    def _forget(self, removed: set[int]) -> None:
        """Drop pruned parameters, and their momentum, from the optimiser."""
        for group in self.weights_optimizer.param_groups:
            for parameter in [p for p in group["params"] if id(p) in removed]:
                self.weights_optimizer.state.pop(parameter, None)
            group["params"] = [p for p in group["params"] if id(p) not in removed]
        momentum = self.gates_optimizer.state[self.supernet.alpha].get("momentum_buffer")
        if momentum is not None:
            momentum.mul_(self.supernet.active)

    # -- recording ---------------------------------------------------------------------------

    def _end_epoch(self, loss: float, *, seconds: float) -> None:
        if not math.isfinite(loss):
            raise RunError(
                f"the loss of epoch {self.epoch} is {loss}: training diverged. The state "
                f"before it is kept in {self.run.path}; start again with a lower "
                f"--learning-rate than {self.config.learning_rate}"
            )
        step = (self.epoch + 1) * self.steps_per_epoch - 1
        self._event(
            "epoch",
            epoch=self.epoch,
            step=step + 1,
            loss=loss,
            validation_accuracy=self._accuracy(self.data.validation),
            learning_rate=self.pace.learning_rate(step),
            pressure=self.pace.strength(step),
            live_operators=int(self.active.sum()),
            resources=self._resources(),
            memory_bytes=self.step_bytes(),
            peak_memory_bytes=take_peak_bytes(self.device),
            seconds=round(seconds, 2),
        )
        self.epoch += 1
        if self._finished():
            self._record(step, ["end"])
        elif self._at_new_plateau():
            self._record(step, ["plateau"])
        self.run.save_checkpoint(self.state())

    def _at_new_plateau(self) -> bool:
        """Whether a planned search has pruned since it recorded a network.

        Its plan falls evenly, so the end of any epoch is as good a plateau as another; the
        pace of the paper finds its plateaus itself.
        """
        pruned = not self.active.all()
        planned = self.config.pace == "planned"
        return planned and pruned and self._architecture().fingerprint != self.recorded

    def _record(self, step: int, reasons: list[str]) -> None:
        """Save the network that is left, with its weights, exact resources and accuracy."""
        architecture = self._architecture()
        network = FrontNetwork(
            fingerprint=architecture.fingerprint,
            accuracy=self._accuracy(self.data.validation),
            resources=self._resources(),
            epoch=step // self.steps_per_epoch,
            step=step + 1,
            reasons=tuple(reasons),
            meets_budgets=self.feasibility.within(self.active),
        )
        self.run.save_network(architecture, self.supernet.network_state())
        self.front = self.front.with_network(network)
        self.run.save_front(self.front)
        self.recorded = network.fingerprint
        self._event("network", **msgspec.to_builtins(network))

    def _architecture(self) -> Architecture:
        return self.data.space.architecture(self.supernet.active_gates())

    def _resources(self) -> dict[str, float]:
        active = self.active
        return {name: cost.total(active) for name, cost in self.feasibility.costs.items()}

    def step_bytes(self) -> int:
        """Memory that a training step needs with the operators that are left, estimated."""

        def autocast() -> AbstractContextManager[object]:
            return autocast_for(self.config, self.device)

        memory = step_memory(self.supernet, self.device, autocast)
        return memory.step_bytes(self.config.batch_size)

    def _met_budgets(self) -> list[Budget]:
        spent = self._resources()
        return [b for b in self.feasibility.budgets if spent[b.resource] <= b.limit]

    def _accuracy(self, images: ImageData) -> float:
        return accuracy(self.supernet, images, self.data.normalisation, self.device)

    def _event(self, name: str, **fields: Any) -> None:
        self.run.log(name, **fields)
        self.observer(name, fields)

    # -- state -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for :meth:`restore`."""
        return {
            "epoch": self.epoch,
            "pace": self.pace.state(),
            "supernet": self.supernet.state_dict(),
            "weights_optimizer": self.weights_optimizer.state_dict(),
            "gates_optimizer": self.gates_optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "front": msgspec.to_builtins(self.front),
            "met": sorted(self.met),
            "recorded": self.recorded,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state: prune what was pruned, then load what was learnt."""
        pruned = torch.nonzero(~state["supernet"]["active"]).flatten().tolist()
        self._forget({id(parameter) for parameter in self.supernet.prune(pruned)})
        self.supernet.load_state_dict(state["supernet"])
        self.gate_costs = self._gate_costs()
        self.weights_optimizer.load_state_dict(state["weights_optimizer"])
        self.gates_optimizer.load_state_dict(state["gates_optimizer"])
        self.pace.restore(state["pace"])
        torch.set_rng_state(state["random"])
        self.epoch = state["epoch"]
        self.front = msgspec.convert(state["front"], Front)
        self.met = set(state["met"])
        self.recorded = state["recorded"]
