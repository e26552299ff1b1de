"""Random changes to training images, and their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from goldnas.errors import ConfigError

# Fill of the area that the rotations and shears of a policy leave empty, in [0, 255].
POLICY_FILL = 128
# Brightness, contrast, saturation, hue. Source: DARTS (arXiv:1806.09055), its ImageNet code.
JITTER = (0.4, 0.4, 0.4, 0.2)


@dataclass(frozen=True, slots=True)
class Changes:
    """The random changes to each image of a batch; drawn on the CPU for all devices."""

    corner: Tensor
    """int64 ``(B, 2)``: row and column of the crop in the padded image."""
    mirrored: Tensor
    """bool ``(B,)``."""
    hole: Tensor
    """int64 ``(2, B)``: row and column of the centre of Cutout's square."""
    policy_seed: int
    """Of the draws of torchvision's transforms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Random changes to a training image, in the order in which they are applied."""

    crop_padding: int = 4
    """Pixels of black added on each side before a random crop to the old size; 0 is off."""

    flip: bool = False
    """Mirror left and right with probability one half; wrong for digits and letters."""

    autoaugment: bool = False
    """Apply the CIFAR-10 policy of AutoAugment (arXiv:1805.09501)."""

    randaugment: bool = False
    """Apply RandAugment (arXiv:1909.13719), two operations of torchvision's strength."""

    resized_crop: bool = False
    """Crop a random part, of 8 to 100 % of the area, and resize it to the old size; in place
    of the crop with padding."""

    colour_jitter: bool = False
    """Change brightness, contrast, saturation and hue at random."""

    cutout: int = 0
    """Side in pixels of a square set to the mean after normalisation; 0 is off."""

    def __post_init__(self) -> None:
        for name, pixels in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if pixels < 0:
                raise ConfigError(f"{name} must be in pixels, 0 for off, got {pixels}")

    @classmethod
    def default_for(cls, input_shape: tuple[int, int, int]) -> Augmentation:
        """Crop every image; flip colour images, which are photographs more often than signs.

        An eighth of the shorter side is added before the crop: 4 pixels of 32, as is usual.

        Args:
            input_shape: ``(C, H, W)``. Grey images (digits, Fashion-MNIST) are not flipped.
        """
        channels, *sides = input_shape
        return cls(crop_padding=round(min(sides) / 8), flip=channels == 3)

    def check(self, input_shape: tuple[int, int, int]) -> None:
        """Refuse what makes no sense for images of ``input_shape``, ``(C, H, W)``.

        Raises:
            ConfigError: If Cutout would hide whole images, a crop lie wholly beside them, or a
                policy meets images that are neither grey nor RGB.
        """
        channels, height, width = input_shape
        if self.cutout >= min(height, width):
            raise ConfigError(
                f"cutout of {self.cutout} pixels hides whole images of {height}x{width}; "
                "choose a smaller square, or 0 for none"
            )
        if self.crop_padding > min(height, width):
            raise ConfigError(
                f"crop_padding of {self.crop_padding} pixels is larger than images of "
                f"{height}x{width}; choose less, or 0 for none"
            )
        for name in ("autoaugment", "randaugment", "colour_jitter"):
            if getattr(self, name) and channels not in (1, 3):
                raise ConfigError(
                    f"{name} needs grey or RGB images, these have {channels} channels; "
                    "switch it off"
                )

    @property
    def by_image(self) -> bool:
        """Whether there are changes that are made image by image, on the CPU."""
        policies = (self.autoaugment, self.randaugment, self.colour_jitter)
        return self.resized_crop or any(policies)

    def draw(self, batch: int, size: tuple[int, int], seed: int) -> Changes:
        """Draw the changes to a batch of images of ``size`` (H, W)."""
        generator = torch.Generator().manual_seed(seed)
        side = 2 * self.crop_padding + 1
        return Changes(
            corner=torch.randint(side, (batch, 2), generator=generator),
            mirrored=torch.rand(batch, generator=generator) < 0.5 * self.flip,
            hole=torch.stack([torch.randint(s, (batch,), generator=generator) for s in size]),
            policy_seed=int(torch.randint(2**62, (), generator=generator)),
        )

    def moved(self, images: Tensor, changes: Changes) -> Tensor:
        """Crop and mirror uint8 ``(B, C, H, W)``, on whichever device they are."""
        if not (self.crop_padding or self.flip):
            return images
        batch, channels, height, width = images.shape
        device = images.device
        top, left = changes.corner.to(device, non_blocking=True).unsqueeze(2).unbind(1)
        across = torch.arange(width, device=device)
        mirrored = changes.mirrored.to(device, non_blocking=True).unsqueeze(1)
        columns = left + torch.where(mirrored, across.flip(0), across)
        rows = top + torch.arange(height, device=device)
        padded = F.pad(images, [self.crop_padding] * 4)
        return padded[
            torch.arange(batch, device=device).view(-1, 1, 1, 1),
            torch.arange(channels, device=device).view(1, -1, 1, 1),
            rows.view(batch, 1, height, 1),
            columns.view(batch, 1, 1, width),
        ]

    def recoloured(self, images: Tensor, changes: Changes) -> Tensor:
        """Apply torchvision's transforms to uint8 ``(B, C, H, W)`` on the CPU, one by one."""
        if not self.by_image:
            return images
        transform = self._transform(images.shape[-2:])
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reset the generators of all devices as well.
            torch.default_generator.manual_seed(changes.policy_seed)
            return torch.stack([transform(image) for image in images])

    def _transform(self, size: torch.Size) -> Callable[[Tensor], Tensor]:
        from torchvision.transforms import v2  # slow to import, and few searches need it

        transforms: list[v2.Transform] = []
        if self.resized_crop:
            transforms.append(v2.RandomResizedCrop(list(size), antialias=True))
        if self.autoaugment:
            transforms.append(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=POLICY_FILL))
        if self.randaugment:
            transforms.append(v2.RandAugment(fill=POLICY_FILL))
        if self.colour_jitter:
            transforms.append(v2.ColorJitter(*JITTER))
        composed: Callable[[Tensor], Tensor] = v2.Compose(transforms)
        return composed

    def cut_out(self, images: Tensor, changes: Changes) -> Tensor:
        """Set one square to zero in each image of ``(B, C, H, W)``.

        Its centre is uniform over the image, so a square at the border is cut short: v2's
        RandomErasing keeps it inside. Source: arXiv:1708.04552.
        """
        if not self.cutout:
            return images
        height, width = images.shape[2:]
        corner = changes.hole.to(images.device, non_blocking=True) - self.cutout // 2
        top, left = corner.view(2, -1, 1, 1, 1)
        row = torch.arange(height, device=images.device).view(-1, 1)
        column = torch.arange(width, device=images.device)
        inside_rows = (row >= top) & (row < top + self.cutout)
        inside_columns = (column >= left) & (column < left + self.cutout)
        return images.masked_fill(inside_rows & inside_columns, 0.0)
