"""A trained network that another one learns from: knowledge distillation.

The loss is that of Hinton et al. (arXiv:1503.02531, section 2). Teacher and pupil see the same
augmented images, as Beyer et al. (arXiv:2106.05237) recommend.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goldnas.architecture import Architecture
from goldnas.data.examples import Normalisation
from goldnas.errors import ConfigError, RunError
from goldnas.run_folder import RunFolder
from goldnas.spaces import find_space
from goldnas.tensor_file import compute_digest


@dataclass(frozen=True)
class Teacher:
    """A trained network, and what it was trained on."""

    name: str
    """The folder, as it was given."""
    module: nn.Module
    """Maps images ``(B, C, H, W)``, normalised as its own were, to ``(B, classes)`` logits."""
    input_shape: tuple[int, ...]
    """``(C, H, W)``."""
    num_classes: int
    normalisation: Normalisation
    classes: tuple[str, ...]
    """Their names, if they have any."""
    data: str
    """Name or path of what it was trained on."""
    sha256: str
    """Of the weights."""

    @classmethod
    def of(
        cls,
        name: str,
        module: nn.Module,
        architecture: Architecture,
        folder: RunFolder,
        data: str,
    ) -> "Teacher":
        """A network with what its folder says of its data.

        Raises:
            RunError: If the folder does not say it.
        """
        conditions = folder.conditions
        try:
            inputs = conditions["inputs"]
            normalisation = Normalisation(tuple(inputs["mean"]), tuple(inputs["std"]))
            names = tuple(map(str, conditions["classes"]))
        except (KeyError, TypeError):
            raise RunError(
                f"{folder.path}/conditions.json does not say how the images were normalised: "
                "train the teacher again"
            ) from None
        space = find_space(architecture)
        shape, outputs = space.input_shape, space.classes
        sha256 = compute_digest(module.state_dict())
        return cls(name, module, shape, outputs, normalisation, names, data, sha256)

    def check(
        self, input_shape: Sequence[int], num_classes: int | None, classes: Sequence[str]
    ) -> None:
        """Check that another network can learn from the teacher.

        Args:
            input_shape: ``(C, H, W)`` of the pupil's images.
            num_classes: That the pupil tells apart.
            classes: Their names in their order, if they have any.

        Raises:
            ConfigError: Naming what differs.
        """
        mine, theirs = ("x".join(map(str, s)) for s in (self.input_shape, input_shape))
        if mine != theirs:
            raise ConfigError(
                f"the `teacher` {self.name} takes images of {mine}, and this network is "
                f"trained on {theirs}: give a teacher for these"
            )
        named = zip(self.classes, classes, strict=False)
        pairs = [(self.num_classes, num_classes), *named]
        for one, other in pairs:
            if one != other:
                raise ConfigError(
                    f"the `teacher` {self.name} has other classes ({one}, not {other}): give a "
                    "teacher that was trained on the same classes"
                )

    def place(self, device: torch.device, normalisation: Normalisation) -> nn.Module:
        """The network on a device, for images that are normalised as the pupil's.

        Its weights do not learn, and its normalisations stay as they are.
        """
        again = _Renormalise(normalisation, self.normalisation)
        placed = nn.Sequential(again, self.module).eval().to(device)
        return placed.requires_grad_(False)


class _Renormalise(nn.Module):
    """Maps images from one normalisation to another."""

    def __init__(self, before: Normalisation, after: Normalisation) -> None:
        super().__init__()
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (before.mean, before.std))
        mean_after, std_after = (
            torch.tensor(v).view(-1, 1, 1) for v in (after.mean, after.std)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", std / std_after)
        self.register_buffer("shift", (mean - mean_after) / std_after)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, H, W)``."""
        return images * self.scale + self.shift


class Distillation:
    """The loss of a pupil beside its teacher.

    Args:
        teacher: Placed, see :meth:`Teacher.place`.
        share: Of the loss that is the teacher's.
        temperature: That both outputs are divided by.
    """

    def __init__(self, teacher: nn.Module, *, share: float, temperature: float) -> None:
        self.teacher = teacher
        self._share = share
        self._temperature = temperature

    def compute(self, loss: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
        """The loss to descend.

        Args:
            loss: Of the labels, a mean over the images.
            inputs: ``(B, C, H, W)``.
            outputs: Of the pupil, ``(B, classes)`` logits.
        """
        with torch.no_grad():
            wanted = F.softmax(self.teacher(inputs).float() / self._temperature, dim=1)
        found = F.log_softmax(outputs.float() / self._temperature, dim=1)
        # Its gradient falls with the square of the temperature.
        apart = self._temperature**2 * F.kl_div(found, wanted, reduction="batchmean")
        return (1 - self._share) * loss + self._share * apart
