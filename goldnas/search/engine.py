"""What every search by a super-network does: train it, record networks, survive, go on.

A strategy is a subclass of :class:`SupernetSearch`. It says how hard to press, what happens
between two steps, and what is left to do after the last epoch.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.architecture import Architecture
from goldnas.errors import RunError, StoppedError
from goldnas.resources import Budget
from goldnas.search.config import SearchConfig
from goldnas.search.feasibility import Feasibility, Mask
from goldnas.search.front import Front, FrontNetwork
from goldnas.search.gradients import BatchGradients
from goldnas.search.memory import step_memory, take_peak_bytes
from goldnas.search.ranks import Ranks
from goldnas.search.run import SearchRun
from goldnas.search.sanity import DivergedError, check_sane, fingerprint
from goldnas.search.scoring import Scorer
from goldnas.search.setup import SearchData, autocast_for, supernet_for
from goldnas.training.data import ImageData

Observer = Callable[[str, dict[str, Any]], None]
"""Told the name of an event and its fields: those of the log, and ``step`` after each step."""

SAVE_EVERY_S = 600.0
"""Seconds of training, at most, that a crash costs."""


class SupernetSearch:
    """One search by a super-network, recorded in a run's folder.

    Everything that decides what comes next is in :meth:`state`, which is saved after each
    epoch, every ten minutes, and when a signal asks the search to stop: on the CPU a
    continued search ends in the same bits as one that was not stopped.

    Args:
        run: The folder.
        data: The space and the pictures, of which this rank loads its share.
        feasibility: The costs and the budgets.
        device: Of this rank.
        ranks: The processes that search together.
    """

    presses = False
    """Whether a pressure on the gates is part of the loss."""

    SETBACKS = 3
    """Returns to the last checkpoint, each at half the learning rate, before giving up."""

    def __init__(
        self,
        run: SearchRun,
        data: SearchData,
        feasibility: Feasibility,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.run = run
        self.config = config = run.config
        self.data = data
        self.feasibility = feasibility
        self.device = device
        self.ranks = ranks or Ranks()
        self.observer: Observer = lambda event, fields: None
        self.stop_signal: Callable[[], int] = lambda: 0
        """Asked after each step: the number of the signal that wants the search to stop."""

        self._build()
        self.gradients = BatchGradients(
            self.ranks,
            pictures=data.loader.images_per_batch,
            accumulate=config.accumulate,
            halved=self._tell_of_memory,
        )
        self.scorer = Scorer(data.normalisation, device, self.ranks)
        self.steps_per_epoch = len(data.loader)
        self.epoch = 0
        """Epochs that are over."""
        self.step = 0
        """Steps that are done, over the whole search."""
        self.losses: list[Tensor] = []
        """Of the steps of the epoch under way."""
        self.setbacks = 0
        self.front = Front(budgets={b.resource: b.limit for b in feasibility.budgets})
        self.met: set[str] = {b.text for b in self._met_budgets()}
        self.recorded: str = ""
        """Fingerprint of the network recorded last."""
        self._saved_at = time.monotonic()

    def _build(self) -> None:
        """Make the whole super-network, as it is before the first step."""
        config, space, device = self.config, self.data.space, self.device
        torch.manual_seed(config.seed)
        self.supernet = supernet_for(config, space, device)
        self.weights_optimizer = torch.optim.SGD(
            (p for p in self.supernet.parameters() if p is not self.supernet.alpha),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            # One pass over all weights, where there are hundreds of small ones.
            fused=device.type in ("cpu", "cuda"),
        )

    # -- what a strategy says ----------------------------------------------------------------

    @staticmethod
    def check(config: SearchConfig) -> None:
        """Refuse a search that lacks something here, before anything is written.

        Raises:
            ConfigError: Saying what.
        """

    def planned_learning_rate(self, step: int) -> float:
        """Of the weights at this step."""
        return self.config.learning_rate

    def _after_step(self, step: int) -> None:
        """Act between two steps."""

    def _after_epoch(self, step: int) -> None:
        """Record what an epoch left."""

    def _after_training(self) -> None:
        """Act after the last epoch."""

    @property
    def below_budgets(self) -> bool:
        """Whether the front is being carried on below the budgets."""
        return False

    @property
    def trains(self) -> bool:
        """Whether there are steps at all."""
        return True

    @property
    def total_steps(self) -> int:
        """Steps of the whole search; where their number is not planned, at most."""
        return self.config.epochs * self.steps_per_epoch

    def _finished(self) -> bool:
        """Whether the last epoch is over."""
        return self.epoch >= self.config.epochs

    def strength(self, step: int) -> float:
        """Lambda at this step: the weight of the pressure in the loss."""
        return 0.0

    # -- the loop ----------------------------------------------------------------------------

    def search(self) -> Front:
        """Search until the budgets are met and nothing is left to do.

        Raises:
            RunError: If training diverges again and again, two pictures do not fit in memory,
                or the last epoch leaves a budget unmet.
            RankError: If the ranks lose each other, or come to differ.
            StoppedError: If a signal asked for it; the search was saved.
            WriteError: If the disk refuses.
        """
        if (front := self.ranks.told(self._front_at_end)) is not None:
            return front
        self._event(
            "start",
            epoch=self.epoch,
            step=self.step,
            ranks=self.ranks.count,
            resources=self._resources(),
            memory_bytes=self.step_bytes(),
        )
        if self.step == 0:
            self._save()
        while True:
            try:
                return self._search()
            except DivergedError as diverged:
                reason = str(diverged)
            self._step_back(reason)

    def _front_at_end(self) -> Front | None:
        ended = [event["event"] for event in self.run.events()[-1:]] == ["end"]
        # Without its front, what is left to do comes out the same again.
        return self.run.front() if ended and self.run.has_front else None

    def _search(self) -> Front:
        while not self._finished():
            began = time.monotonic()
            self._train_epoch()
            self._end_epoch(seconds=time.monotonic() - began)
        self._after_training()
        self.run.save_front(self.front)
        self._event("end", epoch=self.epoch, networks=len(self.front.networks))
        return self.front

    def _train_epoch(self) -> None:
        """One pass over the training data, or what is left of it."""
        done = self.step - self.epoch * self.steps_per_epoch
        for batch in self._epoch_batches(self.epoch, start=done):
            self.losses.append(self._train_step(self.step, *batch))
            self._after_step(self.step)
            self._end_step()

    def _epoch_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """What each step of an epoch learns from, from one of them on."""
        return self.data.loader.epoch(epoch, start=start)

    def _end_step(self) -> None:
        self.step += 1
        self.observer("step", {"epoch": self.epoch, "step": self.step})
        self._save_if_due()

    def _save_if_due(self) -> None:
        """Save after ten minutes, or where a signal asks for it and ends the search."""
        late = time.monotonic() - self._saved_at > SAVE_EVERY_S
        signal, save = self.ranks.highest(self.stop_signal(), int(late))
        if signal or save:
            self._save()
        if signal:
            raise self.ranks.common(
                StoppedError(
                    f"interrupted after step {self.step}, and saved; go on with: "
                    f"goldnas search --resume {shlex.quote(str(self.run.path))}",
                    signal,
                )
            )

    def _train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """One descent; return the classification loss."""
        self._set_learning_rate(step)
        loss = self.gradients.compute(self.supernet, images, labels, self._loss)
        self._descend()
        return loss

    def _set_learning_rate(self, step: int) -> None:
        self.supernet.train()
        for group in self.weights_optimizer.param_groups:
            group["lr"] = self.learning_rate(step)

    def _descend(self) -> None:
        """One step of the weights, along the gradient that is in them."""
        nn.utils.clip_grad_norm_(
            self.weights_optimizer.param_groups[0]["params"], self.config.gradient_clip
        )
        self.weights_optimizer.step()

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of some pictures, and the part of it that is of their classification."""
        config = self.config
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        with autocast_for(config, self.device):
            logits, auxiliary = self.supernet(images)
            loss = classification = F.cross_entropy(logits, labels)
            if auxiliary is not None:
                loss = loss + config.auxiliary_weight * F.cross_entropy(auxiliary, labels)
        return loss, classification

    def learning_rate(self, step: int) -> float:
        """Of the weights at this step: the plan's, halved by each setback."""
        return self.planned_learning_rate(step) * 0.5**self.setbacks

    @property
    def active(self) -> Mask:
        """The gates that are left, ``(G,)``; its own copy."""
        # On the CPU, numpy would share the memory of the super-network's.
        mask: Mask = self.supernet.active.cpu().numpy().copy()
        return mask

    def _forget(self, removed: list[nn.Parameter]) -> None:
        """Drop pruned parameters, and their momentum, from the optimiser."""
        gone = {id(parameter) for parameter in removed}
        for group in self.weights_optimizer.param_groups:
            for parameter in [p for p in group["params"] if id(p) in gone]:
                self.weights_optimizer.state.pop(parameter, None)
            group["params"] = [p for p in group["params"] if id(p) not in gone]

    # -- recording ---------------------------------------------------------------------------

    def _end_epoch(self, *, seconds: float) -> None:
        check_sane(self.supernet, self.losses)
        self.ranks.verify(f"after epoch {self.epoch + 1}", self._fingerprints)
        step = (self.epoch + 1) * self.steps_per_epoch - 1
        self._event(
            "epoch",
            epoch=self.epoch,
            step=step + 1,
            loss=float(torch.stack(self.losses).mean()),
            validation_accuracy=self._accuracy(self.data.validation),
            learning_rate=self.learning_rate(step),
            pressure=self.strength(step),
            live_operators=int(self.active.sum()),
            resources=self._resources(),
            memory_bytes=self.step_bytes(),
            peak_memory_bytes=take_peak_bytes(self.device),
            seconds=round(seconds, 2),
        )
        self.epoch += 1
        self.losses = []
        self._after_epoch(step)
        self._save()

    def _keep(
        self, network: FrontNetwork, architecture: Architecture, weights: dict[str, Tensor]
    ) -> None:
        """Write a network down: its files, the front, the log."""
        self.run.save_network(architecture, weights)
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
        return memory.step_bytes(self.gradients.at_once)

    def _met_budgets(self) -> list[Budget]:
        spent = self._resources()
        return [b for b in self.feasibility.budgets if spent[b.resource] <= b.limit]

    def _accuracy(self, images: ImageData) -> float:
        return self.scorer.accuracy(self.supernet, images)

    def _fingerprints(self) -> dict[str, str]:
        """What must be equal on all ranks."""
        return {
            "the live operators": self._architecture().fingerprint,
            "lambda": json.dumps(self._own_state()),
            "the weights": fingerprint(self.supernet),
        }

    def _tell_of_memory(self, at_once: int, parts: int) -> None:
        self._event("out_of_memory", step=self.step + 1, pictures_at_once=at_once, parts=parts)

    def _event(self, name: str, **fields: Any) -> None:
        self.run.log(name, **fields)
        self.observer(name, fields)

    # -- setbacks ----------------------------------------------------------------------------

    def _step_back(self, reason: str) -> None:
        """Return to the last checkpoint, at half the learning rate.

        Raises:
            RunError: If that was done often enough.
        """
        step, setbacks = self.step, self.setbacks + 1
        state = self.ranks.told(self.run.checkpoint)
        if setbacks > self.SETBACKS or state is None:
            raise self.ranks.common(
                RunError(
                    f"training diverged at step {step} ({reason}), {setbacks} times by now, at "
                    f"{self.learning_rate(step):.2g} the last time. The state before it is "
                    f"kept in {self.run.path}; start again with a lower --learning-rate than "
                    f"{self.config.learning_rate}"
                )
            )
        at_once = self.gradients.at_once
        self.restore(state)
        self.gradients.at_once = min(at_once, self.gradients.at_once)
        self.setbacks = setbacks
        self._save()
        self._event(
            "setback",
            reason=reason,
            step=step,
            back_to_step=self.step,
            learning_rate=self.learning_rate(self.step),
        )

    # -- state -------------------------------------------------------------------------------

    def _save(self) -> None:
        check_sane(self.supernet, self.losses)
        self.run.save_checkpoint(self.state())
        self._saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for :meth:`restore`."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "losses": [float(loss) for loss in self.losses],
            "setbacks": self.setbacks,
            "at_once": self.gradients.at_once,
            "supernet": self.supernet.state_dict(),
            "weights_optimizer": self.weights_optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "front": msgspec.to_builtins(self.front),
            "met": sorted(self.met),
            "recorded": self.recorded,
            "strategy": self._own_state(),
        }

    def _own_state(self) -> dict[str, Any]:
        """What the strategy adds to it: plain numbers and texts."""
        return {}

    def _restore_own(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`_own_state`."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state: prune what was pruned, then load what was learnt."""
        self._build()
        pruned = torch.nonzero(~state["supernet"]["active"]).flatten().tolist()
        self._forget(self.supernet.prune(pruned))
        self.supernet.load_state_dict(state["supernet"])
        self.weights_optimizer.load_state_dict(state["weights_optimizer"])
        torch.set_rng_state(state["random"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]
        self.setbacks = state["setbacks"]
        self.gradients.at_once = state["at_once"]
        self.front = msgspec.convert(state["front"], Front)
        self.met = set(state["met"])
        self.recorded = state["recorded"]
        self._restore_own(state["strategy"])
