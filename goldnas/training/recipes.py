"""Recipes by name: how networks are trained, as data. Needs no torch."""

from typing import Annotated, Literal

import msgspec

from goldnas.errors import ConfigError
from goldnas.settings import NOT_NEGATIVE, POSITIVE, SHARE, setting
from goldnas.training.shared_settings import (
    AMP,
    AuxiliaryWeight,
)

TRAINING = "Settings, in place of the recipe's"
"""A group of settings."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network is trained: everything but the network, the data and the seed."""

    epochs: Annotated[
        int,
        setting("Passes over the data. Default: those of the recipe.", bounds=POSITIVE),
    ]

    batch_size: Annotated[
        int, setting("Images per step, over all processes.", group=TRAINING, bounds=POSITIVE)
    ]

    learning_rate: Annotated[
        float,
        setting(
            "Highest learning rate. It falls during the training.",
            group=TRAINING,
            bounds=POSITIVE,
        ),
    ]

    body_rate: Annotated[
        float,
        setting(
            "With `weights`: learning rate of all layers but the classifier, as a share of "
            "its learning rate. 1 is the same rate.",
            group=TRAINING,
            bounds=NOT_NEGATIVE,
        ),
    ] = 1.0

    decay: float | None = None
    """Factor of the learning rate after each epoch; None for a cosine, which falls to 0 a
    little with each step."""

    warm_up: float = 0.0
    """Share of the steps over which the learning rate rises from 0."""

    momentum: float = 0.9

    weight_decay: float = 3e-4

    gradient_clip: float = 5.0
    """Largest norm of the gradient."""

    augmentation: Literal["crop", "randaugment", "resized-crop", "none"] = "crop"
    """``crop`` moves and mirrors; ``randaugment`` applies RandAugment besides; ``resized-crop``
    is that of ImageNet: a random part, resized, mirrored and recoloured. ``none`` is for data
    of one's own."""

    cutout: Annotated[
        int,
        setting(
            "Side of the square that Cutout hides, in pixels; 0 for none. For images under 32 "
            "pixels, recipes use at most half their side.",
            group=TRAINING,
            bounds=NOT_NEGATIVE,
        ),
    ] = 0

    drop_path: Annotated[
        float,
        setting(
            "Share of operators that are dropped at random at the end of the training. It "
            "rises from 0. Identities are never dropped.",
            group=TRAINING,
            bounds=SHARE,
        ),
    ] = 0.0

    auxiliary_weight: AuxiliaryWeight = 0.0

    label_smoothing: Annotated[
        float,
        setting(
            "Share of each label that is spread over all classes.", group=TRAINING, bounds=SHARE
        ),
    ] = 0.0

    ema_decay: float = 0.0
    """Of the moving average of the weights, which then is the network; 0 for none."""

    amp: Annotated[
        str,
        setting(
            AMP,
            group=TRAINING,
            kind="amp",
        ),
    ] = "off"


RECIPES = {
    # Source: DARTS (arXiv:1806.09055) and its code; GOLD-NAS (arXiv:2007.03331) retrains so.
    "darts-cifar": Recipe(
        epochs=600,
        batch_size=96,
        learning_rate=0.025,
        cutout=16,
        drop_path=0.2,
        auxiliary_weight=0.4,
    ),
    # Source: the same, for ImageNet.
    "darts-imagenet": Recipe(
        epochs=250,
        batch_size=128,
        learning_rate=0.1,
        decay=0.97,
        weight_decay=3e-5,
        augmentation="resized-crop",
        auxiliary_weight=0.4,
        label_smoothing=0.1,
    ),
    "fine-tune": Recipe(
        epochs=20,
        batch_size=32,
        learning_rate=0.05,
        body_rate=0.3,
        warm_up=0.1,
        weight_decay=1e-4,
        label_smoothing=0.1,
        ema_decay=0.99,
    ),
    "modern": Recipe(
        epochs=60,
        batch_size=128,
        learning_rate=0.1,
        warm_up=0.05,
        weight_decay=5e-4,
        augmentation="randaugment",
        label_smoothing=0.1,
        ema_decay=0.999,
        amp="auto",
    ),
    "short": Recipe(epochs=15, batch_size=64, learning_rate=0.05),
}

PURPOSES = {
    "darts-cifar": "results as in papers on CIFAR",
    "darts-imagenet": "results as in papers on ImageNet",
    "fine-tune": "fine-tuning a ready-made network on few images",
    "modern": "training in a tenth of the epochs of darts-cifar",
    "short": "comparing networks on a laptop",
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
