"""The training of one network, from its first step to its result."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.architecture import Architecture
from goldnas.errors import RunError, StoppedError
from goldnas.resources import count_flops, count_parameters
from goldnas.retraining.config import TrainConfig
from goldnas.retraining.drop_path import DropPath
from goldnas.retraining.folder import TrainingFolder
from goldnas.retraining.learner import Learner, moving_average
from goldnas.retraining.result import TrainResult
from goldnas.search.gradients import BatchGradients
from goldnas.search.ranks import Ranks
from goldnas.search.sanity import DivergedError, check_sane, fingerprint
from goldnas.search.scoring import Scorer
from goldnas.spaces import space_of
from goldnas.training.data import ImageData, Normalisation
from goldnas.training.loader import TrainingLoader

Observer = Callable[[str, dict[str, Any]], None]
"""Told the name of an event and its fields: those of the log, and ``step`` after each step."""

SAVE_EVERY_S = 600.0
"""Seconds of training, at most, that a crash costs."""


@dataclass(frozen=True)
class TrainingData:
    """The pictures of a training."""

    loader: TrainingLoader
    validation: ImageData | None
    """Taken from the training data; None if nothing is held out."""
    test: ImageData
    """Looked at once, after the last epoch."""
    normalisation: Normalisation


class Training:
    """One training in its folder.

    Everything that decides what comes next is in :meth:`state`, which is saved after each
    epoch, every ten minutes, and when a signal asks the training to stop: on the CPU a
    continued training ends in the same bits as one that was not stopped.

    Args:
        folder: Of the training; the first rank alone writes it.
        architecture: The network.
        config: Settings.
        data: The pictures, of which this rank loads its share.
        device: Of this rank.
        ranks: The processes that train together.
        weights: With gates, to begin with; None for fresh ones without gates.
        predicted: Further resources of the result, such as latencies, by name.
    """

    SETBACKS = 3
    """Returns to the last checkpoint, each at half the learning rate, before giving up."""

    def __init__(
        self,
        folder: TrainingFolder,
        architecture: Architecture,
        config: TrainConfig,
        data: TrainingData,
        device: torch.device,
        ranks: Ranks,
        *,
        weights: dict[str, Tensor] | None = None,
        predicted: dict[str, float] | None = None,
    ) -> None:
        self.folder = folder
        self.architecture = architecture
        self.config = config
        self.data = data
        self.device = device
        self.ranks = ranks
        self.observer: Observer = lambda event, fields: None
        self.stop_signal: Callable[[], int] = lambda: 0
        """Asked after each step: the number of the signal that wants the training to stop."""

        self._weights = weights
        self._predicted = predicted or {}
        self._build()
        self.gradients = BatchGradients(
            ranks,
            pictures=data.loader.images_per_batch,
            accumulate=1,
            halved=self._tell_of_memory,
        )
        self.scorer = Scorer(data.normalisation, device, ranks)
        self.steps_per_epoch = len(data.loader)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.epoch = 0
        """Epochs that are over."""
        self.step = 0
        """Steps that are done, over the whole training."""
        self.losses: list[Tensor] = []
        """Of the steps of the epoch under way."""
        self.setbacks = 0
        self.seconds = 0.0
        """Of training, until the last checkpoint."""
        self._saved_at = time.monotonic()

    def _build(self) -> None:
        """Make the network, and what trains it, as they are before the first step."""
        config, device = self.config, self.device
        space = space_of(self.architecture)
        torch.manual_seed(config.seed)
        network = space.build(self.architecture, gated=self._weights is not None)
        if self._weights is not None:
            network.load_state_dict(self._weights)
        learner = Learner(network, space, auxiliary=config.auxiliary_weight > 0)
        # Depthwise convolutions run faster with channels last, forward and backward.
        self.learner = learner.to(device).to(memory_format=torch.channels_last)
        self.average = moving_average(network, config.ema_decay) if config.ema_decay else None
        # After the average was copied, which is to drop nothing.
        self.drop_path = DropPath(network, device, config.seed)
        self.optimizer = torch.optim.SGD(
            self.learner.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            # One pass over all weights, where there are hundreds of small ones.
            fused=device.type in ("cpu", "cuda"),
        )

    @property
    def network(self) -> nn.Module:
        """The network that is scored and kept: the average of the weights, if there is one."""
        trained = self.learner.network if self.average is None else self.average.module
        assert isinstance(trained, nn.Module)
        return trained

    # -- the loop ----------------------------------------------------------------------------

    def train(self) -> TrainResult:
        """Train to the last epoch, and read the test set.

        Raises:
            RunError: If training diverges again and again, or two pictures do not fit in
                memory.
            RankError: If the ranks lose each other, or come to differ.
            StoppedError: If a signal asked for it; the training was saved.
            WriteError: If the disk refuses.
        """
        self._saved_at = time.monotonic()
        self._event("start", epoch=self.epoch, step=self.step, ranks=self.ranks.count)
        if self.step == 0:
            self._save()
        while True:
            try:
                self._train()
                return self._finish()
            except DivergedError as diverged:
                reason = str(diverged)
            self._step_back(reason)

    def _train(self) -> None:
        while self.epoch < self.config.epochs:
            began = time.monotonic()
            done = self.step - self.epoch * self.steps_per_epoch
            for images, labels in self.data.loader.epoch(self.epoch, start=done):
                self.losses.append(self._train_step(images, labels))
                self._end_step()
            self._end_epoch(seconds=time.monotonic() - began)

    def _train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One descent; return the classification loss."""
        self.learner.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        share = self.step / self.total_steps
        self.drop_path.begin(self.step, self.ranks.index, self.config.drop_path * share)
        loss = self.gradients.compute(self.learner, images, labels, self._loss)
        nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.learner.network)
        return loss

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of some pictures, and the part of it that is of their classification."""
        config = self.config
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        bf16 = config.amp == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits, auxiliary = self.learner(images)
            smoothing = config.label_smoothing
            loss = classification = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            if auxiliary is not None:
                beside = F.cross_entropy(auxiliary, labels, label_smoothing=smoothing)
                loss = loss + config.auxiliary_weight * beside
        return loss, classification

    def learning_rate(self, step: int) -> float:
        """Of this step: the recipe's, halved by each setback."""
        config = self.config
        highest = config.learning_rate * 0.5**self.setbacks
        progress = step / self.total_steps
        if progress < config.warm_up:
            return highest * (step + 1) / (1 + config.warm_up * self.total_steps)
        if config.decay is not None:
            return highest * math.pow(config.decay, step // self.steps_per_epoch)
        left = (progress - config.warm_up) / (1 - config.warm_up)
        return highest * 0.5 * (1 + math.cos(math.pi * left))

    def _end_step(self) -> None:
        self.step += 1
        self.observer("step", {"epoch": self.epoch, "step": self.step})
        late = time.monotonic() - self._saved_at > SAVE_EVERY_S
        signal, save = self.ranks.highest(self.stop_signal(), int(late))
        if signal or save:
            self._save()
        if signal:
            raise self.ranks.common(
                StoppedError(
                    f"interrupted after step {self.step}, and saved in {self.folder.path}; "
                    "the same command goes on",
                    signal,
                )
            )

    def _end_epoch(self, *, seconds: float) -> None:
        check_sane(self.learner, self.losses)
        self.ranks.verify(
            f"after epoch {self.epoch + 1}", lambda: {"the weights": fingerprint(self.learner)}
        )
        self._event(
            "epoch",
            epoch=self.epoch,
            loss=float(torch.stack(self.losses).mean()),
            validation_accuracy=self._validation_accuracy(),
            learning_rate=self.learning_rate(self.step - 1),
            seconds=round(seconds, 2),
        )
        self.epoch += 1
        self.losses = []
        self._save()

    def _finish(self) -> TrainResult:
        """Score the network of the last epoch, and keep it."""
        network, config = self.network, self.config
        result = TrainResult(
            fingerprint=self.architecture.fingerprint,
            recipe=config.recipe,
            epochs=config.epochs,
            seed=config.seed,
            warm=config.warm,
            validation_accuracy=self._validation_accuracy(),
            test_accuracy=self.scorer.accuracy(network, self.data.test),
            resources={
                "FLOPs": count_flops(network, space_of(self.architecture).input_shape),
                "params": count_parameters(network),
                **self._predicted,
            },
            pictures=self.data.loader.num_images,
            seconds=round(self.seconds, 2),
        )
        if self.ranks.first:
            state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
            self.folder.save_result(result, state)
        self._event(
            "end",
            validation_accuracy=result.validation_accuracy,
            test_accuracy=result.test_accuracy,
            seconds=result.seconds,
        )
        return result

    def _validation_accuracy(self) -> float | None:
        held_out = self.data.validation
        return None if held_out is None else self.scorer.accuracy(self.network, held_out)

    def _tell_of_memory(self, at_once: int, parts: int) -> None:
        self._event("out_of_memory", step=self.step + 1, pictures_at_once=at_once, parts=parts)

    def _event(self, name: str, **fields: Any) -> None:
        if self.ranks.first:
            self.folder.log(name, **fields)
        self.observer(name, fields)

    # -- setbacks ----------------------------------------------------------------------------

    def _step_back(self, reason: str) -> None:
        """Return to the last checkpoint, at half the learning rate.

        Raises:
            RunError: If that was done often enough.
        """
        step, setbacks = self.step, self.setbacks + 1
        state = self.ranks.told(self.folder.checkpoint)
        if setbacks > self.SETBACKS or state is None:
            raise self.ranks.common(
                RunError(
                    f"training diverged at step {step} ({reason}), {setbacks} times by now, at "
                    f"{self.learning_rate(step):.2g} the last time. The state before it is "
                    f"kept in {self.folder.path}; train again into another --out with a lower "
                    f"--learning-rate than {self.config.learning_rate}"
                )
            )
        at_once, seconds = self.gradients.at_once, self._seconds_now()
        self.restore(state)
        self.gradients.at_once = min(at_once, self.gradients.at_once)
        self.setbacks, self.seconds = setbacks, seconds
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
        check_sane(self.learner, self.losses)
        self.seconds, self._saved_at = self._seconds_now(), time.monotonic()
        if self.ranks.first:
            self.folder.save_checkpoint(self.state())

    def _seconds_now(self) -> float:
        return self.seconds + time.monotonic() - self._saved_at

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for :meth:`restore`."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "losses": [float(loss) for loss in self.losses],
            "setbacks": self.setbacks,
            "seconds": self.seconds,
            "at_once": self.gradients.at_once,
            "learner": self.learner.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._build()
        self.learner.load_state_dict(state["learner"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]
        self.setbacks, self.seconds = state["setbacks"], state["seconds"]
        self.gradients.at_once = state["at_once"]
        self._saved_at = time.monotonic()
