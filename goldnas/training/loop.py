"""What searches and trainings have in common: steps and epochs that survive, and go on.

A loop is a subclass of :class:`TrainingLoop`. It says what learns, how fast, what happens
between two steps, what the log says of an epoch, and what else belongs to its state.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from goldnas.data.examples import Normalisation, to_device
from goldnas.data.loader import TrainingLoader
from goldnas.errors import RunError, StoppedError
from goldnas.loggers.listener import Loggers
from goldnas.run_folder import RunFolder
from goldnas.searching.config import StepSettings
from goldnas.searching.setup import autocast_for
from goldnas.task import Task
from goldnas.training.distributed import Ranks
from goldnas.training.divergence import DivergedError, check_sane, fingerprint
from goldnas.training.gradients import BatchGradients
from goldnas.training.scoring import Scorer

_Result = TypeVar("_Result")

Observer = Callable[[str, dict[str, Any]], None]
"""Told the name of an event and its fields: those of the log, ``step`` after each step, and
``logger_failed`` with the ``logger`` and the ``reason``."""

SAVE_EVERY_S = 600.0
"""Seconds of training, at most, that a crash costs."""


class LoopData(Protocol):
    """What every loop needs of its data."""

    @property
    def task(self) -> Task:
        """What is learnt."""

    @property
    def loader(self) -> TrainingLoader:
        """Of those that it learns from."""

    @property
    def normalisation(self) -> Normalisation:
        """Of all of them."""


class TrainingLoop:
    """Trains a module by batches, recorded in a run's folder.

    Everything that decides what comes next is in :meth:`state`, which is saved after each
    epoch, every ten minutes, and when a signal asks the loop to stop: on the CPU one that goes
    on ends in the same bits as one that was not stopped.

    Args:
        run: The folder; the first rank alone writes it.
        config: Settings.
        data: The images, of which this rank loads its share.
        device: Of this rank.
        ranks: The processes that train together.
        accumulate: Parts that each rank divides its part of a batch into.
    """

    SETBACKS = 3
    """Returns to the last checkpoint, each at half the learning rate, before giving up."""

    weights_optimizer: torch.optim.SGD

    def __init__(
        self,
        run: RunFolder,
        config: StepSettings,
        data: LoopData,
        device: torch.device,
        ranks: Ranks,
        *,
        accumulate: int = 1,
    ) -> None:
        self.run = run
        self.config = config
        self.data = data
        self.device = device
        self.ranks = ranks
        self.observer: Observer = lambda event, fields: None
        self.loggers = Loggers()
        self.stop_signal: Callable[[], int] = lambda: 0
        """Asked after each step: the number of the signal that wants the loop to stop."""

        self._build()
        self.gradients = BatchGradients(
            ranks,
            num_images=data.loader.images_per_batch,
            accumulate=accumulate,
            halved=self._tell_of_memory,
        )
        self.scorer = Scorer(data.task, data.normalisation, device, ranks)
        self.steps_per_epoch = len(data.loader)
        self.epoch = 0
        """Epochs that are over."""
        self.step = 0
        """Steps that are done, over all epochs."""
        self.losses: list[Tensor] = []
        """Of the steps of the epoch under way."""
        self.setbacks = 0
        self._saved_at = time.monotonic()

    # -- what a loop says --------------------------------------------------------------------

    def _build(self) -> None:
        """Make what learns, and its optimiser, as they are before the first step."""
        raise NotImplementedError

    @property
    def _module(self) -> nn.Module:
        """What learns."""
        raise NotImplementedError

    def _of_epoch(self) -> dict[str, Any]:
        """What the log says of the epoch that is just over."""
        raise NotImplementedError

    def planned_learning_rate(self, step: int) -> float:
        """Of the weights at this step, without setbacks."""
        return self.config.learning_rate

    @property
    def total_steps(self) -> int:
        """Steps of all epochs; where their number is not planned, at most."""
        return self.config.epochs * self.steps_per_epoch

    def _finished(self) -> bool:
        """Whether the last epoch is over."""
        return self.epoch >= self.config.epochs

    def _epoch_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """What each step of an epoch learns from, from one of them on."""
        return self.data.loader.epoch(epoch, start=start)

    def _after_step(self, step: int) -> None:
        """Act between two steps."""

    def _after_epoch(self, step: int) -> None:
        """Record what an epoch left."""

    def _fingerprints(self) -> dict[str, str]:
        """What must be equal on all ranks after an epoch."""
        return {"the weights": fingerprint(self._module)}

    # -- the loop ----------------------------------------------------------------------------

    def _learn(self, finish: Callable[[], _Result]) -> _Result:
        """Train to the last epoch and finish, and have loggers follow it.

        Raises:
            RunError: If training diverges again and again, or two images do not fit in
                memory.
            RankError: If the ranks lose each other, or come to differ.
            StoppedError: If a signal asked for it; the state was saved.
            WriteError: If the disk refuses.
        """
        names = self.config.loggers if self.ranks.first else ()
        settings = msgspec.to_builtins(self.config)
        with Loggers(names, self.run, settings, self._tell_of_logger) as self.loggers:
            self._event("start", **self._of_start())
            if self.step == 0:
                self._save()
            return self._train_through(finish)

    def _train_through(self, finish: Callable[[], _Result]) -> _Result:
        """Train to the last epoch and finish; where training diverges, go back and repeat."""
        while True:
            try:
                while not self._finished():
                    self._train_epoch()
                return finish()
            except DivergedError as diverged:
                reason = str(diverged)
            self._step_back(reason)

    def _of_start(self) -> dict[str, Any]:
        """What the log says of a beginning, the first or a later one."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "ranks": self.ranks.count,
            "images": self.data.loader.kept,
        }

    def _train_epoch(self) -> None:
        """One pass over the training data, or what is left of it."""
        began = time.monotonic()
        done = self.step - self.epoch * self.steps_per_epoch
        for batch in self._epoch_batches(self.epoch, start=done):
            self.losses.append(self._train_step(self.step, *batch))
            self._after_step(self.step)
            self._end_step()
        self._end_epoch(seconds=time.monotonic() - began)

    def _train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """One descent; return the task's loss."""
        self._set_learning_rate(step)
        loss = self.gradients.compute(self._module, images, labels, self._loss)
        self._descend()
        return loss

    def _set_learning_rate(self, step: int) -> None:
        self._module.train()
        for group in self.weights_optimizer.param_groups:
            group["lr"] = self.learning_rate(step)

    def learning_rate(self, step: int) -> float:
        """Of the weights at this step: as planned, halved by each setback."""
        return self.planned_learning_rate(step) * 0.5**self.setbacks

    def _loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of some inputs, and the part of it that is of the task."""
        inputs = to_device(inputs, self.device, non_blocking=True)
        targets = targets.to(self.device, non_blocking=True)
        task = self.data.task
        with self._autocast():
            outputs, auxiliary = self._module(inputs)
            loss = of_task = task.loss_of(outputs, targets)
            if auxiliary is not None:
                beside = task.loss_of(auxiliary, targets)
                loss = loss + self.config.auxiliary_weight * beside
        return loss, of_task

    @property
    def _figure(self) -> str:
        """What the log calls the metric."""
        return "accuracy" if self.config.task is None else "metric"

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast_for(self.config, self.device)

    def _sgd(self, weights: Iterable[nn.Parameter]) -> torch.optim.SGD:
        """The optimiser of some weights."""
        return torch.optim.SGD(
            weights,
            lr=self.config.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
            # One pass over all weights, where there are hundreds of small ones.
            fused=self.device.type in ("cpu", "cuda"),
        )

    def _descend(self) -> None:
        """One step of the weights, along the gradient that is in them."""
        nn.utils.clip_grad_norm_(
            self.weights_optimizer.param_groups[0]["params"], self.config.gradient_clip
        )
        self.weights_optimizer.step()

    def _end_step(self) -> None:
        self.step += 1
        self.observer("step", {"epoch": self.epoch, "step": self.step})
        self._save_if_due()

    def _end_epoch(self, *, seconds: float) -> None:
        self._check_sane()
        self.ranks.verify(f"after epoch {self.epoch + 1}", self._fingerprints)
        self._event("epoch", epoch=self.epoch, **self._of_epoch(), seconds=round(seconds, 2))
        self.epoch += 1
        self.losses = []
        self._after_epoch(self.step - 1)
        self._save()

    def _check_sane(self) -> None:
        classes = self.data.loader.num_classes if self.config.task is None else None
        check_sane(self._module, self.losses, classes)

    # -- the log -----------------------------------------------------------------------------

    def _event(self, name: str, **fields: Any) -> None:
        if self.ranks.first:
            self.run.log(name, **fields)
            self.loggers.tell(name, fields)
        self.observer(name, fields)

    def _tell_of_logger(self, name: str, reason: str) -> None:
        self.observer("logger_failed", {"logger": name, "reason": reason})

    def _tell_of_memory(self, at_once: int, parts: int) -> None:
        self._event("out_of_memory", step=self.step + 1, images_at_once=at_once, parts=parts)

    # -- setbacks ----------------------------------------------------------------------------

    def _step_back(self, reason: str) -> None:
        """Return to the last checkpoint, at half the learning rate.

        Raises:
            RunError: If that was done often enough.
        """
        step, setbacks = self.step, self.setbacks + 1
        state = self.ranks.broadcast(self.run.checkpoint)
        if setbacks > self.SETBACKS or state is None:
            raise self.ranks.common(
                RunError(
                    f"training diverged at step {step} ({reason}), {setbacks} times by now, at "
                    f"{self.learning_rate(step):.2g} the last time. The state before it is "
                    f"kept in {self.run.path}; {self.run.again} with a lower --learning-rate "
                    f"than {self.config.learning_rate}"
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

    def _save_if_due(self) -> None:
        """Save after ten minutes, or where a signal asks for it and ends the loop."""
        late = time.monotonic() - self._saved_at > SAVE_EVERY_S
        signal, save = self.ranks.all_reduce_max(self.stop_signal(), int(late))
        if signal or save:
            self._save()
        if signal:
            raise self.ranks.common(
                StoppedError(
                    f"interrupted after step {self.step}, and {self.run.saved}", signal
                )
            )

    def _save(self) -> None:
        self._check_sane()
        if self.ranks.first:
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
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._build()
        self.epoch, self.step = state["epoch"], state["step"]
        self.losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]
        self.setbacks = state["setbacks"]
        self.gradients.at_once = state["at_once"]
        torch.set_rng_state(state["random"])

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one.

        Raises:
            RunError: If it is damaged, or of another run.
        """
        state = self.ranks.broadcast(self.run.checkpoint)
        if state is not None:
            self.ranks.on_all(lambda: self._resume_from(state))

    def _resume_from(self, state: dict[str, Any]) -> None:
        try:
            self.restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"{self.run.path}/checkpoint.pt does not belong to this {self.run.kind} "
                f"({reason}); {self.run.restore}"
            ) from None
