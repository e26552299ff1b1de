"""The training of one network, from its first step to its result."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples, Normalisation
from goldnas.data.loader import TrainingLoader
from goldnas.resources import count_flops, count_parameters
from goldnas.spaces import space_of
from goldnas.task import Task
from goldnas.training.config import TrainConfig
from goldnas.training.distributed import Ranks
from goldnas.training.drop_path import DropPath
from goldnas.training.folder import TrainingFolder
from goldnas.training.learner import Learner, moving_average
from goldnas.training.loop import TrainingLoop
from goldnas.training.result import TrainResult


@dataclass(frozen=True)
class TrainingData:
    """The data of a training, and what is learnt from it."""

    task: Task
    loader: TrainingLoader
    validation: Examples | None
    """Taken from the training data; None if nothing is held out."""
    test: Examples
    """Looked at once, after the last epoch."""
    normalisation: Normalisation


class Training(TrainingLoop):
    """One training of one network.

    Args:
        run: Its folder; the first rank alone writes it.
        architecture: The network.
        config: Settings.
        data: The images, of which this rank loads its share.
        device: Of this rank.
        ranks: The processes that train together.
        weights: With gates, to begin with; None for fresh ones without gates.
        predicted: Further resources of the result, such as latencies, by name.
    """

    run: TrainingFolder
    config: TrainConfig
    data: TrainingData

    def __init__(
        self,
        run: TrainingFolder,
        architecture: Architecture,
        config: TrainConfig,
        data: TrainingData,
        device: torch.device,
        ranks: Ranks,
        *,
        weights: dict[str, Tensor] | None = None,
        predicted: dict[str, float] | None = None,
    ) -> None:
        self.architecture = architecture
        self._weights = weights
        self._predicted = predicted or {}
        super().__init__(run, config, data, device, ranks)
        self.seconds = 0.0
        """Of training, until the last checkpoint."""
        self._began = time.monotonic()

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
        self.weights_optimizer = self._sgd(self.learner.parameters())

    @property
    def _module(self) -> nn.Module:
        return self.learner

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
            RunError: If training diverges again and again, or two images do not fit in
                memory.
            RankError: If the ranks lose each other, or come to differ.
            StoppedError: If a signal asked for it; the training was saved.
            WriteError: If the disk refuses.
        """
        self._began = time.monotonic() - self.seconds
        return self._learn(self._finish)

    def _train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """One descent; return the task's loss."""
        share = step / self.total_steps
        self.drop_path.begin(step, self.ranks.index, self.config.drop_path * share)
        loss = super()._train_step(step, images, labels)
        if self.average is not None:
            self.average.update_parameters(self.learner.network)
        return loss

    def planned_learning_rate(self, step: int) -> float:
        """Of this step: the recipe's."""
        config = self.config
        progress = step / self.total_steps
        if progress < config.warm_up:
            return config.learning_rate * (step + 1) / (1 + config.warm_up * self.total_steps)
        if config.decay is not None:
            return config.learning_rate * math.pow(config.decay, step // self.steps_per_epoch)
        left = (progress - config.warm_up) / (1 - config.warm_up)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * left))

    def _of_epoch(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "loss": float(torch.stack(self.losses).mean()),
            f"validation_{self._figure}": self._validation_score(),
            "learning_rate": self.learning_rate(self.step - 1),
        }

    def _finish(self) -> TrainResult:
        """Score the network of the last epoch, and keep it."""
        network, config = self.network, self.config
        result = TrainResult(
            fingerprint=self.architecture.fingerprint,
            recipe=config.recipe,
            epochs=config.epochs,
            seed=config.seed,
            warm=config.warm,
            **self._scored(
                validation=self._validation_score(),
                test=self.scorer.score(network, self.data.test),
            ),
            resources={
                "FLOPs": count_flops(network, space_of(self.architecture).input_shape),
                "params": count_parameters(network),
                **self._predicted,
            },
            images=self.data.loader.num_images,
            seconds=round(self.seconds, 2),
        )
        if self.ranks.first:
            state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
            self.run.save_result(result, state)
        self._event(
            "end",
            step=self.step,
            **{
                f"validation_{self._figure}": result.validation and result.validation.value,
                f"test_{self._figure}": result.test.value,
            },
            seconds=result.seconds,
        )
        return result

    def _validation_score(self) -> float | None:
        held_out = self.data.validation
        return None if held_out is None else self.scorer.score(self.network, held_out)

    def _scored(self, **scores: float | None) -> dict[str, Any]:
        """The fields of the result that say how good the network is."""
        accuracies: dict[str, Any] = {f"{part}_accuracy": scores[part] for part in scores}
        if self.config.task is None:
            return accuracies
        return dict.fromkeys(accuracies) | {
            f"{part}_metric": None if score is None else self.data.task.measured(score)
            for part, score in scores.items()
        }

    # -- state -------------------------------------------------------------------------------

    def _save(self) -> None:
        self.seconds = time.monotonic() - self._began
        super()._save()

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for :meth:`restore`."""
        return super().state() | {
            "seconds": self.seconds,
            "learner": self.learner.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.weights_optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        super().restore(state)
        self.learner.load_state_dict(state["learner"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.weights_optimizer.load_state_dict(state["optimizer"])
        self.seconds = state["seconds"]
