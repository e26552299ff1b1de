"""What is done to a training image, and the setting that says so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

from goldnas.errors import ConfigError

# Fill of the area that AutoAugment's rotations and shears leave empty, in [0, 255].
AUTOAUGMENT_FILL = 128
# On images smaller than this, a crop that moves by four pixels loses the object.
SMALL_IMAGE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Random changes to a training image, in the order in which they are applied."""

    crop_padding: int = 4
    """Pixels of black added on each side before a random crop to the old size; 0 is off."""

    flip: bool = False
    """Mirror left and right with probability one half; wrong for digits and letters."""

    autoaugment: bool = False
    """Apply the CIFAR-10 policy of AutoAugment (arXiv:1805.09501)."""

    cutout: int = 0
    """Side in pixels of a square set to the mean after normalisation; 0 is off."""

    def __post_init__(self) -> None:
        for name, pixels in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if pixels < 0:
                raise ConfigError(f"{name} is in pixels, 0 for off, got {pixels}")

    @classmethod
    def default_for(cls, input_shape: tuple[int, int, int]) -> Augmentation:
        """Crop every image; flip colour images, which are photographs more often than signs.

        Args:
            input_shape: ``(C, H, W)``. Grey images (digits, Fashion-MNIST) are not flipped.
        """
        channels, *sides = input_shape
        return cls(crop_padding=1 if min(sides) < SMALL_IMAGE else 4, flip=channels == 3)

    def check(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse what makes no sense for images of ``input_shape``, ``(C, H, W)``.

        Raises:
            ConfigError: If Cutout would hide whole images, or AutoAugment meets images that
                are neither grey nor RGB.
        """
        channels, height, width = input_shape
        if self.cutout >= min(height, width):
            raise ConfigError(
                f"cutout of {self.cutout} pixels hides images of {height}x{width}; "
                "choose a smaller square, or 0 for none"
            )
        if self.autoaugment and channels not in (1, 3):
            raise ConfigError(
                f"autoaugment needs grey or RGB images, these have {channels} channels; "
                "switch it off"
            )

    def of_image(self, size: tuple[int, int]) -> v2.Transform:
        """Build the part that works on one uint8 image ``(C, H, W)`` of ``size`` (H, W)."""
        steps: list[v2.Transform] = []
        if self.crop_padding:
            steps.append(v2.RandomCrop(size, padding=self.crop_padding))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.autoaugment:
            policy = v2.AutoAugmentPolicy.CIFAR10
            steps.append(v2.AutoAugment(policy, fill=AUTOAUGMENT_FILL))
        return v2.Compose(steps or [v2.Identity()])


def cut_out(images: Tensor, side: int) -> Tensor:
    """Set one square of ``side`` pixels to zero in each image of ``(B, C, H, W)``.

    The centre is uniform over the image, so a square at the border is cut short: v2's
    RandomErasing keeps it inside. Source: arXiv:1708.04552.
    """
    batch, _, height, width = images.shape
    top = torch.randint(height, (batch, 1, 1, 1)) - side // 2
    left = torch.randint(width, (batch, 1, 1, 1)) - side // 2
    row, column = torch.arange(height).view(-1, 1), torch.arange(width)
    hidden = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return images.masked_fill(hidden, 0.0)
