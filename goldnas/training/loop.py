"""The loop of every search and every training: steps and epochs that survive, and go on.

Everything that decides what comes next is in :meth:`TrainingLoop.state_dict`, which
``checkpoints.py`` saves. On the CPU a loop that goes on from there ends in the same bits as one
that was not stopped.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import torch
from torch import Tensor

from goldnas.ranges import Count, Number
from goldnas.run_folder import RunFolder
from goldnas.tensor_file import check_tensor
from goldnas.training.checkpoints import SETBACKS, Checkpoints
from goldnas.training.config import StepSettings
from goldnas.training.distributed import Ranks
from goldnas.training.divergence import DivergedError, check_sane, fingerprint
from goldnas.training.events import Events
from goldnas.training.gradients import BatchGradients
from goldnas.training.scoring import Scorer
from goldnas.training.strategy import LoopData, Strategy

Result = TypeVar("Result")


class LoopState(msgspec.Struct, kw_only=True):
    """What a checkpoint says of the loop itself; the learner's part stands beside it."""

    epoch: Count
    step: Count
    losses: list[Number]
    setbacks: Annotated[int, msgspec.Meta(ge=0, le=SETBACKS)]
    at_once: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    random: Any
    """Of torch: ``(N,)``, bytes."""
    strategy: dict[str, Any]
    """Which the strategy itself looks at."""


class TrainingLoop(Generic[Result]):
    """Trains what a strategy holds, by batches, recorded in the folder of a run.

    Args:
        run: The folder; the first rank alone writes it.
        config: Settings.
        data: What is learnt from; this rank loads its share.
        device: Of this rank.
        ranks: The processes that train together.
        strategy: Makes the strategy for this loop.
        accumulate: Parts that each rank divides its part of a batch into.
    """

    def __init__(
        self,
        run: RunFolder,
        config: StepSettings,
        data: LoopData,
        device: torch.device,
        ranks: Ranks,
        strategy: "Callable[[TrainingLoop[Result]], Strategy[Result]]",
        *,
        accumulate: int = 1,
    ) -> None:
        self.run, self.config, self.data = run, config, data
        self.device, self.ranks = device, ranks
        self.events = Events(run, writes=ranks.first)
        self.stop_signal: Callable[[], int] = lambda: 0
        """Asked after each step: the number of the signal that wants the loop to stop."""
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
        self.checkpoints = Checkpoints(self)

        self.strategy = strategy(self)
        self.learner = self.strategy.learner
        self.learner.build()

    def train(self) -> Result:
        """Train to the last epoch and finish; where training diverges, go back and repeat.

        Raises:
            RunError: If training diverges again and again, two images do not fit in memory,
                or the strategy cannot finish.
            RankError: If the ranks lose each other, or come to differ.
            StoppedError: If a signal asked for it; the state was saved.
            WriteError: If the disk refuses.
        """
        with self.events.logged(self.config.loggers, msgspec.to_builtins(self.config)):
            self._emit_start()
            if self.step == 0:
                self.checkpoints.save()
            while True:
                try:
                    while not self.strategy.finished():
                        self._train_epoch()
                    return self.strategy.finish()
                except DivergedError as diverged:
                    reason = str(diverged)
                # Not above, where the error keeps the failed step alive.
                self.checkpoints.step_back(reason)

    def _train_epoch(self) -> None:
        """One pass over the training data, or what is left of it."""
        began = time.monotonic()
        done = self.step - self.epoch * self.steps_per_epoch
        for batch in self.data.batches(self.epoch, start=done):
            self.train_step(*batch)
            self.strategy.after_step(self.step)
            self.end_step()
        self._end_epoch(seconds=time.monotonic() - began)

    def train_step(self, *batch: Any) -> None:
        """Take one step."""
        self.losses.append(self.strategy.train_step(self.step, *batch))

    def end_step(self) -> None:
        """Count the step, and save where it is time to."""
        self.step += 1
        self.events.emit_unlogged("step", epoch=self.epoch, step=self.step)
        self.checkpoints.save_if_due()

    def _end_epoch(self, *, seconds: float) -> None:
        self.check_sane()
        self.ranks.verify(f"after epoch {self.epoch + 1}", self._fingerprints)
        described = self.learner.describe_epoch()
        self.events.emit("epoch", epoch=self.epoch, **described, seconds=round(seconds, 2))
        self.epoch += 1
        self.losses = []
        self.strategy.after_epoch(self.step - 1)
        self.checkpoints.save()

    # -- what strategies ask -----------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Of the weights at this step: the strategy's, halved by each setback."""
        return self.strategy.learning_rate(step) * 0.5**self.checkpoints.setbacks

    @property
    def mean_loss(self) -> float:
        """Of the steps of the epoch under way."""
        return float(torch.stack(self.losses).mean())

    def check_sane(self) -> None:
        """Refuse losses or weights that are not finite or have exploded.

        Raises:
            DivergedError: Which sends the loop back to its last checkpoint.
        """
        classes = self.data.loader.num_classes if self.config.task is None else None
        check_sane(self.learner.module, self.losses, classes)

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "losses": [float(loss) for loss in self.losses],
            "setbacks": self.checkpoints.setbacks,
            "at_once": self.gradients.at_once,
            "random": torch.get_rng_state(),
            "strategy": self.strategy.state_dict(),
            **self.learner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: If it is of no such loop; other errors of a state that is damaged are
                a ``KeyError``, ``TypeError``, ``RuntimeError`` and so on.
        """
        mine = msgspec.convert(state, LoopState)
        check_tensor("random", mine.random, torch.get_rng_state())
        self.learner.build()
        self.epoch, self.step = mine.epoch, mine.step
        self.losses = [torch.tensor(loss, device=self.device) for loss in mine.losses]
        self.checkpoints.setbacks = mine.setbacks
        self.gradients.at_once = min(mine.at_once, self.data.loader.images_per_batch)
        torch.set_rng_state(mine.random)
        self.learner.load_state_dict(state)
        self.strategy.load_state_dict(mine.strategy)
        self._check_place()

    def _check_place(self) -> None:
        """Refuse a step that is not in the epoch under way, or has other losses.

        Raises:
            ValueError: If the loop would go on from there.
        """
        done = self.step - self.epoch * self.steps_per_epoch
        under_way = not self.strategy.finished()
        # After the last epoch a strategy may take some more.
        most = self.steps_per_epoch if under_way else self.epoch * self.steps_per_epoch + 100
        if not 0 <= done <= most or self.epoch > self.config.epochs:
            raise ValueError(f"step {self.step} is not in epoch {self.epoch + 1}")
        if under_way and done != len(self.losses):
            raise ValueError(f"{done} steps of the epoch, and losses of {len(self.losses)}")

    # -- the log -----------------------------------------------------------------------------

    def _emit_start(self) -> None:
        self.events.emit(
            "start",
            epoch=self.epoch,
            step=self.step,
            ranks=self.ranks.count,
            images=self.data.loader.kept,
            **self.learner.describe_start(),
            **self.strategy.describe_start(),
        )

    def _tell_of_memory(self, at_once: int, parts: int) -> None:
        self.events.emit(
            "out_of_memory", step=self.step + 1, images_at_once=at_once, parts=parts
        )

    def _fingerprints(self) -> dict[str, str]:
        """What must be equal on all ranks after an epoch."""
        decided = msgspec.json.encode(self.strategy.state_dict()).decode()
        return {"what was decided": decided, "the weights": fingerprint(self.learner.module)}
