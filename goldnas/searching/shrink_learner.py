"""A network that becomes smaller while it learns."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goldnas.architecture import Architecture
from goldnas.channels import Coupling, LayerChannels, compensate, cut, remove_branches
from goldnas.data.examples import Examples
from goldnas.data.loader import read_batches
from goldnas.errors import ConfigError
from goldnas.ranges import Count, NotNegative
from goldnas.searching.budgets import Limit
from goldnas.searching.loss_probe import LossProbe
from goldnas.searching.session import Session
from goldnas.searching.subnet import recalibrate
from goldnas.searching.widths import Importance
from goldnas.spaces.shrunk import Size
from goldnas.tensor_file import check_like, load_state
from goldnas.training.auxiliary import WithAuxiliaryHead
from goldnas.training.averaging import moving_average
from goldnas.training.machine import autocast_for, place_module
from goldnas.training.memory import step_memory, take_peak_bytes
from goldnas.training.ready_made import quicken_statistics
from goldnas.training.task_data import blank_loss
from goldnas.training.teacher import Distillation
from goldnas.training.weights import WeightsOptimizer, compute_loss

SHARE, TEMPERATURE = 0.5, 4.0
"""Of the loss that is the teacher's, and what outputs are divided by (arXiv:1503.02531)."""

AVERAGE = 0.99
"""Decay of the average of the weights since channels last went: it is what is recorded."""

SOME = 512
"""Training images that say how what stays makes up for what goes."""


class _Measured(msgspec.Struct, forbid_unknown_fields=True):
    """What was measured of a network's parts since something last went."""

    channels: list[list[NotNegative]]
    steps: Count


class ShrinkLearner:
    """A network, its optimiser, its teacher, and what each of its parts is worth.

    The importance of a channel is the mean over steps of ``(sum w dL/dw)^2``, over the weights
    that read it: to first order, the square of what the loss would change by if the channel
    went (arXiv:1906.10771).

    Args:
        session: Of the shrinking.
    """

    module: WithAuxiliaryHead
    optimizer: WeightsOptimizer
    size: Size

    def __init__(self, session: Session) -> None:
        assert session.widths is not None  # PreparedSearch sees to it
        self._session = session
        self._costs = session.widths
        self._space = session.widths.space
        self._coupling: Coupling = self._space.coupling
        self._distillation: Distillation | None = None

    def build(self) -> None:
        """Make the whole network with the weights that it began with; and its teacher."""
        session = self._session
        torch.manual_seed(session.config.seed)
        network = session.run.with_whole_weights(self._space.build_whole())
        if session.config.task is None:
            teacher = session.run.with_whole_weights(self._space.build_whole())
            teacher = teacher.eval().requires_grad_(False).to(session.loop.device)
            self._distillation = Distillation(teacher, share=SHARE, temperature=TEMPERATURE)
        self.size = self._space.whole
        self._coupling = self._space.coupling
        self._take(network)

    def _take(self, network: nn.Module) -> None:
        """Go on with a network, with an optimiser that remembers nothing."""
        quicken_statistics(network)
        module = WithAuxiliaryHead(network, self._space, auxiliary=False)
        self.module = place_module(module, self._session.loop.device)
        weights = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = WeightsOptimizer(
            weights, self._session.config, self._session.loop.device
        )
        self._average = moving_average(self.module.network, AVERAGE)
        self._measured = _Measured([[0.0] * group.size for group in self._coupling.groups], 0)

    # -- steps -------------------------------------------------------------------------------

    def train_step(
        self, step: int, images: Tensor, labels: Tensor, *, measures: bool
    ) -> Tensor:
        """One descent; return the loss of the task.

        Args:
            step: Counted from 0.
            images: ``(B, C, H, W)``.
            labels: ``(B,)``.
            measures: Whether the step counts for the importance.
        """
        loop = self._session.loop
        self.module.train()
        loss = loop.gradients.compute(self.module, images, labels, self._compute_loss)
        if measures:
            self._measure()
        self.optimizer.descend(loop.learning_rate(step))
        self._average.update_parameters(self.module.network)
        return loss

    def _compute_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return compute_loss(
            self.module,
            images,
            labels,
            task=self._session.data.task,
            device=self._session.loop.device,
            autocast=self._autocast,
            auxiliary_weight=0.0,
            distillation=self._distillation,
        )

    def _measure(self) -> None:
        """Note what the gradient that is in the weights says of each part."""
        taken = [np.zeros(group.size) for group in self._coupling.groups]
        for path, roles in self._coupling.layers.items():
            if "in" in roles:
                layer = self.module.network.get_submodule(path)
                assert isinstance(layer.weight, Tensor)
                self._add_to(taken, roles["in"], _change(layer.weight))
        for mine, new in zip(self._measured.channels, taken, strict=True):
            mine[:] = (np.asarray(mine) + new**2).tolist()
        self._measured.steps += 1

    @staticmethod
    def _add_to(
        taken: list[npt.NDArray[np.float64]], channels: LayerChannels, changes: Tensor
    ) -> None:
        values = changes.cpu().double().numpy()
        for group in np.unique(channels.group[channels.group >= 0]):
            mine = channels.group == group
            np.add.at(taken[group], channels.channel[mine], values[mine])

    def _scores(self) -> list[npt.NDArray[np.float64]]:
        """The importance of each channel, since something last went."""
        steps = max(1, self._measured.steps)
        return [np.asarray(values) / steps for values in self._measured.channels]

    def importance(self, num_images: int) -> Importance:
        """The rise of the loss without parts of the remaining network.

        Gradients say which channels of a group are worth the least, and how the rise grows with
        their number. They do not say how large the rise is for many channels at once, or for a
        whole branch. So the rise is measured: without each branch, and without some channels of
        each group.

        The measured network has not yet learnt to do without these parts. If an input passes by
        a layer within a branch, the measured rise is small even if next to nothing is left of
        the layer. So the same amount is added for every group: ``W / w - 1`` for ``w`` of ``W``
        channels, times the worth of half of the channels in the median group. For a branch, it
        is as much as for a quarter of the channels.

        Args:
            num_images: Training images that it is measured on, for each of these.
        """
        probe = self._probe(num_images)
        measured = [self._curve(probe, g, score) for g, score in enumerate(self._scores())]
        halves = [curve[len(curve) // 2] for curve in measured if len(curve) > self._space.step]
        half = float(np.median(halves)) if halves else 0.0
        curves = []
        for group, curve in enumerate(measured):
            whole = self._space.whole.widths[group]
            left = np.maximum(len(curve) - 1 - np.arange(len(curve)), 0.5)
            equal = half * (whole / left - 1)
            curves.append(np.asarray(curve + equal - equal[0]))
        branches = [
            probe.rise_without({}, layers) + 3 * half if there else 0.0
            for layers, there in zip(
                self._space.branches.values(), self.size.branches, strict=True
            )
        ]
        return Importance(tuple(curves), tuple(branches))

    def count_probes(self) -> int:
        """How often the loss is measured for :meth:`importance`."""
        return 1 + 2 * len(self._space.free) + sum(self.size.branches)

    def _curve(
        self, probe: LossProbe, group: int, score: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """The rise of the loss without the channels of a group that are worth the least.

        Args:
            probe: Measures.
            group: Its index.
            score: Of its channels.
        """
        total = np.concatenate([[0.0], np.cumsum(np.sort(score))])
        total += 1e-6 * max(total[-1], 1e-12) * np.arange(len(total))
        branch = self._space.branch_of[group]
        below = [w for w in self._space.widths(group) if w < len(score)]
        if not below or (branch is not None and not self.size.branches[branch]):
            return np.zeros(len(total))
        order = np.argsort(score, kind="stable")
        few, many = len(score) - below[-1], len(score) - below[len(below) // 2]
        first = probe.rise_without({group: order[:few]})
        power = 1.0
        if many > few:
            second = max(first, probe.rise_without({group: order[:many]}))
            power = np.log(second / first) / np.log(total[many] / total[few])
        return np.asarray(first * (total / total[few]) ** np.clip(power, 1.0, 3.0))

    def _probe(self, num_images: int) -> LossProbe:
        """What measures the loss on some training images, with the teacher's part."""
        session, at_once = self._session, self._session.loop.gradients.at_once
        typical = session.data.typical
        some = typical.subset(torch.arange(min(num_images, len(typical))))
        batches = read_batches(some, session.data.normalisation, batch_size=at_once)
        return LossProbe(
            *(self.module.network, self._coupling, self._compute_loss, list(batches)),
            session.loop.ranks,
        )

    def shrink(self, size: Size) -> None:
        """Make the network smaller: what is worth the least goes, and the rest makes up for it.

        The normalisations take their running statistics anew, from training images.
        """
        ranks, kept = self._session.loop.ranks, self._choose_kept(size)
        compensate(
            self.module.network, self._coupling, kept, self._read_some(), ranks.all_reduce
        )
        network = self._cut(size, kept)
        recalibrate(network, self._read_some(), self._session.loop.device, ranks)
        self._take(network)

    def _read_some(self) -> Iterator[Tensor]:
        """Training images of this rank, batch by batch."""
        loop, data = self._session.loop, self._session.data
        mine = loop.ranks.shard(data.typical.subset(torch.arange(min(SOME, len(data.typical)))))
        for images, _ in read_batches(
            mine, data.normalisation, batch_size=loop.gradients.at_once
        ):
            yield images.to(loop.device)

    def _choose_kept(self, size: Size) -> dict[str, npt.NDArray[np.int64]]:
        """The channels of each group that are worth the most."""
        kept: dict[str, npt.NDArray[np.int64]] = {}
        for index, (group, values) in enumerate(
            zip(self._coupling.groups, self._scores(), strict=True)
        ):
            width = min(size.widths[index], group.size)
            kept[group.name] = np.sort(np.argsort(-values, kind="stable")[:width])
        return kept

    def _cut(self, size: Size, kept: Mapping[str, npt.NDArray[np.int64]]) -> nn.Module:
        """Take out all other channels, and the branches that a size does not have."""
        network = self.module.network
        cut(network, self._coupling, kept)
        gone = [
            p for p, there in zip(self._space.branches, size.branches, strict=True) if not there
        ]
        remove_branches(network, gone)
        self._coupling = self._coupling.restrict(kept, gone)
        self.size = self._space.normalise(size)
        return network

    # -- the network that is left ------------------------------------------------------------

    @staticmethod
    def penalty_weight(step: int) -> float:
        """None: the budgets are limits, not a penalty."""
        return 0.0

    @property
    def architecture(self) -> Architecture:
        """The network that is left."""
        return self._space.describe(self.size)

    @property
    def network(self) -> nn.Module:
        """That network, with the average of its weights since something last went."""
        network = self._average.module
        assert isinstance(network, nn.Module)
        return network

    def score(self, examples: Examples) -> float:
        """The metric of that network."""
        return self._session.score(self.network, examples)

    def score_teacher(self, examples: Examples) -> float | None:
        """The metric of the whole network with the weights that it began with."""
        if self._distillation is None:
            return None
        return self._session.score(self._distillation.teacher, examples)

    def step_bytes(self) -> int:
        """Memory that a training step needs with what is left, estimated."""
        data, loop = self._session.data, self._session.loop
        blank = blank_loss(data.task, data.check)
        shape = self._space.input_shape
        memory = step_memory(self.module, shape, loop.device, self._autocast, blank)
        return memory.step_bytes(loop.gradients.at_once)

    def count_left(self) -> int:
        """How many channels are left, of those that might go."""
        size = self._space.normalise(self.size)
        return sum(
            width
            for width, branch in zip(size.widths, self._space.branch_of, strict=True)
            if branch is None or size.branches[branch]
        )

    def count_all(self) -> int:
        """How many there were at first."""
        return sum(self._space.whole.widths)

    def resources(self) -> dict[str, float]:
        """The amounts that the remaining network needs."""
        return self._costs.total(self.size)

    def limits(self) -> list[Limit]:
        """That, beside the least and the most that a network needs, and the budgets."""
        return self._costs.list_limits(self.size)

    # -- the log -----------------------------------------------------------------------------

    def describe_start(self) -> dict[str, Any]:
        """Resources, budgets, and the memory of a step."""
        return {
            "live_operators": self.count_left(),
            "resources": self.resources(),
            "budgets": {budget.resource: budget.limit for budget in self._costs.budgets},
            "memory_bytes": self.step_bytes(),
        }

    def describe_epoch(self) -> dict[str, Any]:
        """Loss, score, rate, channels, resources, memory."""
        session, loop = self._session, self._session.loop
        return {
            "step": loop.step,
            "loss": loop.mean_loss,
            f"validation_{session.data.task.metric_kind.key}": self.score(
                session.data.validation
            ),
            "learning_rate": loop.learning_rate(loop.step - 1),
            "penalty_weight": 0.0,
            "live_operators": self.count_left(),
            "resources": self.resources(),
            "memory_bytes": self.step_bytes(),
            "peak_memory_bytes": take_peak_bytes(loop.device),
        }

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, and what is left."""
        return {
            "left": self.architecture.to_json().decode(),
            "network": self.module.state_dict(),
            "average": self._average.state_dict(),
            "measured": msgspec.to_builtins(self._measured),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the network as small as it was, then load what was learnt.

        Raises:
            ValueError: If it is not of this network.
        """
        try:
            size = self._space.size_of(Architecture.from_json(state["left"]))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        self._take(self._cut(size, self._choose_kept(size)))
        check_like(state["network"], self.module.state_dict())
        check_like(state["average"], self._average.state_dict())
        load_state(self.module, state["network"])
        load_state(self._average, state["average"])
        measured = msgspec.convert(state["measured"], _Measured)
        mine = [len(values) for values in self._measured.channels]
        if [len(values) for values in measured.channels] != mine:
            raise ValueError("the importance of other channels")
        self._measured = measured
        self.optimizer.load_state_dict(state["optimizer"])

    def _autocast(self) -> Any:
        return autocast_for(self._session.config, self._session.loop.device)


def _change(weight: Tensor) -> Tensor:
    """To first order, what the loss changes by without what a layer reads, channel by channel.

    Args:
        weight: ``(out, in, ...)``.
    """
    if weight.grad is None:
        return torch.zeros(weight.shape[1])
    change = weight.detach() * weight.grad
    return change.sum([axis for axis in range(change.dim()) if axis != 1])
