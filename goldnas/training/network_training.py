"""The training of one network, from its first step to its result."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.data.examples import Examples, Normalisation
from goldnas.data.loader import TrainingLoader
from goldnas.metric import write_metric
from goldnas.ranges import Seconds
from goldnas.resource_names import FLOPS, PARAMETERS
from goldnas.resources import count_flops, count_parameters
from goldnas.spaces import SearchSpace, find_space
from goldnas.spaces.single import SingleSpace
from goldnas.spaces.zoo import ZooSpace
from goldnas.task import Task
from goldnas.tensor_file import check_like, load_state
from goldnas.training.auxiliary import WithAuxiliaryHead
from goldnas.training.averaging import moving_average
from goldnas.training.config import TrainConfig
from goldnas.training.drop_path import DropPath
from goldnas.training.folder import TrainingFolder
from goldnas.training.loop import TrainingLoop
from goldnas.training.machine import autocast_for, place_module
from goldnas.training.ready_made import quicken_statistics
from goldnas.training.result import TrainResult
from goldnas.training.teacher import Distillation, Teacher
from goldnas.training.weights import WeightsOptimizer, compute_loss


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

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """Images and labels of each step of an epoch, from one of the steps on."""
        return self.loader.epoch(epoch, start=start)


class NetworkLearner:
    """One network, its auxiliary head, their optimiser, and the average of the weights.

    Args:
        loop: That trains it.
        config: Settings.
        architecture: The network.
        weights: With gates, to begin with; None for fresh ones without gates.
        pretrained: Without gates, to begin with: all, or all but the classifier's.
        distillation: From its teacher, if it has one.
    """

    module: WithAuxiliaryHead
    optimizer: WeightsOptimizer

    def __init__(
        self,
        loop: TrainingLoop[TrainResult],
        config: TrainConfig,
        architecture: Architecture,
        weights: Mapping[str, Tensor] | None,
        pretrained: Mapping[str, Tensor] | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        self._loop = loop
        self._config = config
        self._distillation = distillation
        self._architecture = architecture
        self._weights = weights
        self._pretrained = pretrained or {}
        self._seconds = 0.0
        """Of training, until the last checkpoint."""
        self._began = time.monotonic()

    def build(self) -> None:
        """Make the network, and what trains it, as they are before the first step."""
        config, device = self._config, self._loop.device
        space = find_space(self._architecture)
        torch.manual_seed(config.seed)
        network = space.build(self._architecture, gated=self._weights is not None)
        if self._weights is not None:
            load_state(network, self._weights)
        load_state(network, self._pretrained, strict=False)  # they were held against it
        if isinstance(space, ZooSpace):
            quicken_statistics(network)
        module = WithAuxiliaryHead(network, space, auxiliary=config.auxiliary_weight > 0)
        self.module = place_module(module, device)
        self._average = moving_average(network, config.ema_decay) if config.ema_decay else None
        # After the average was copied, which is to drop nothing.
        self._drop_path = DropPath(network, device, config.seed)
        self.optimizer = WeightsOptimizer(
            *(self.module.parameters(), config, device),
            slower=_find_body(network, space) if config.body_rate < 1 else (),
            share=config.body_rate,
        )

    @property
    def network(self) -> nn.Module:
        """The network that is scored and kept: the average of the weights, if there is one."""
        trained = self.module.network if self._average is None else self._average.module
        assert isinstance(trained, nn.Module)
        return trained

    def train_step(self, step: int, images: Tensor, labels: Tensor, progress: float) -> Tensor:
        """One descent; return the loss of the task.

        Args:
            step: Counted from 0.
            images: ``(B, C, H, W)``.
            labels: ``(B,)``.
            progress: Share of the training that is over: paths are dropped more and more.
        """
        loop, config = self._loop, self._config
        self._drop_path.begin(step, loop.ranks.index, config.drop_path * progress)
        self.module.train()
        loss = loop.gradients.compute(self.module, images, labels, self._compute_loss)
        self.optimizer.descend(loop.learning_rate(step))
        if self._average is not None:
            self._average.update_parameters(self.module.network)
        return loss

    def _compute_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return compute_loss(
            self.module,
            images,
            labels,
            task=self._loop.data.task,
            device=self._loop.device,
            autocast=lambda: autocast_for(self._config, self._loop.device),
            auxiliary_weight=self._config.auxiliary_weight,
            distillation=self._distillation,
        )

    def score(self, examples: Examples | None) -> float | None:
        """The metric of the network on some examples; None without any."""
        return None if examples is None else self._loop.scorer.score(self.network, examples)

    # -- the log, and state ------------------------------------------------------------------

    def describe_start(self) -> dict[str, Any]:
        """Nothing besides what the log says of every loop."""
        return {}

    def describe_epoch(self) -> dict[str, Any]:
        """Loss, score and learning rate."""
        loop = self._loop
        assert isinstance(loop.data, TrainingData)
        return {
            "step": loop.step,
            "loss": loop.mean_loss,
            f"validation_{loop.data.task.metric_kind.key}": self.score(loop.data.validation),
            "learning_rate": loop.learning_rate(loop.step - 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, and in what time."""
        self._seconds = time.monotonic() - self._began
        return {
            "seconds": self._seconds,
            "learner": self.module.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._seconds = msgspec.convert(state["seconds"], Seconds)
        check_like(state["learner"], self.module.state_dict())
        load_state(self.module, state["learner"])
        if self._average is not None:
            check_like(state["average"], self._average.state_dict())
            load_state(self._average, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._began = time.monotonic() - self._seconds

    @property
    def seconds(self) -> float:
        """Of training, until the last checkpoint."""
        return self._seconds


def _find_body(network: nn.Module, space: SearchSpace) -> Iterator[nn.Parameter]:
    """The weights of a network that began with some, without those of its classifier."""
    assert isinstance(space, SingleSpace)  # no other begins with weights of a file
    classifier = space.find_classifier()
    return (weight for name, weight in network.named_parameters() if name not in classifier)


class NetworkTraining:
    """Trains one network for the epochs of a recipe, and reads the test set once.

    Args:
        loop: That trains it.
        run: Its folder; the first rank alone writes it.
        architecture: The network.
        config: Settings.
        data: What it learns from, is held out, and is tested on.
        weights: With gates, to begin with; None for fresh ones without gates.
        pretrained: Without gates, to begin with: all, or all but the classifier's.
        teacher: That it also learns from.
        predicted: Further resources of the result, such as latencies, by name.
    """

    def __init__(
        self,
        loop: TrainingLoop[TrainResult],
        run: TrainingFolder,
        architecture: Architecture,
        config: TrainConfig,
        data: TrainingData,
        *,
        weights: Mapping[str, Tensor] | None = None,
        pretrained: Mapping[str, Tensor] | None = None,
        teacher: Teacher | None = None,
        predicted: Mapping[str, float] | None = None,
    ) -> None:
        self._loop = loop
        self._run = run
        self._config = config
        self._data = data
        self._predicted = predicted or {}
        self.architecture = architecture
        self._distillation: Distillation | None = None
        if teacher is not None:
            self._distillation = Distillation(
                teacher.place(loop.device, data.normalisation),
                share=config.teacher_share,
                temperature=config.temperature,
            )
        self.learner = NetworkLearner(
            *(loop, config, architecture, weights, pretrained),
            distillation=self._distillation,
        )

    def describe_start(self) -> dict[str, Any]:
        """Nothing besides what the log says of every loop."""
        return {}

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self._config.epochs * self._loop.steps_per_epoch

    def train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """One descent."""
        return self.learner.train_step(step, images, labels, step / self.total_steps)

    def learning_rate(self, step: int) -> float:
        """Learning rate of the weights: the recipe's."""
        config = self._config
        progress = step / self.total_steps
        if progress < config.warm_up:
            return config.learning_rate * (step + 1) / (1 + config.warm_up * self.total_steps)
        if config.decay is not None:
            epoch = step // self._loop.steps_per_epoch
            return config.learning_rate * math.pow(config.decay, epoch)
        left = (progress - config.warm_up) / (1 - config.warm_up)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * left))

    def finished(self) -> bool:
        """Whether the last epoch is over."""
        return self._loop.epoch >= self._config.epochs

    def after_step(self, step: int) -> None:
        """Nothing is decided between steps."""

    def after_epoch(self, step: int) -> None:
        """Nothing is kept of an epoch but the checkpoint."""

    def finish(self) -> TrainResult:
        """Score the network of the last epoch, and keep it."""
        network, config, kind = self.learner.network, self._config, self._data.task.metric_kind
        validation = self.learner.score(self._data.validation)
        test = self.learner.score(self._data.test)
        if self._distillation is not None:
            self._tell_of_teacher(self._distillation.teacher, test)
        result = TrainResult(
            fingerprint=self.architecture.fingerprint,
            recipe=config.recipe,
            epochs=config.epochs,
            seed=config.seed,
            warm=config.warm,
            teacher=config.describe_teacher(),
            **write_metric(kind, validation, "validation_"),
            **write_metric(kind, test, "test_"),
            resources={
                FLOPS: count_flops(network, find_space(self.architecture).input_shape),
                PARAMETERS: count_parameters(network),
                **self._predicted,
            },
            images=self._data.loader.num_images,
            seconds=round(self.learner.seconds, 2),
        )
        if self._loop.ranks.first:
            state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
            self._run.save_result(result, state)
        self._loop.events.emit(
            "end",
            step=self._loop.step,
            **{f"validation_{kind.key}": validation, f"test_{kind.key}": test},
            seconds=result.seconds,
        )
        return result

    def _tell_of_teacher(self, teacher: nn.Module, test: float | None) -> None:
        """Say what the teacher has on the test set, and whether that was worth learning."""
        loop, kind = self._loop, self._data.task.metric_kind
        theirs = loop.scorer.score(teacher, self._data.test)
        loop.events.emit("teacher", step=loop.step, **{f"test_{kind.key}": theirs})
        told = f"the teacher {self._config.teacher} has {100 * theirs:.2f} % on the test set"
        if test is not None and theirs < test:
            told += (
                f", less than the {100 * test:.2f} % of this network: train without a "
                "teacher, too"
            )
        loop.events.emit_unlogged("note", text=told)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: all of it follows from the step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to go on from."""
