"""Published weights of ready-made networks, and the part of a network that is new.

torchvision and timm fetch their own weights, and only if a call names them.
"""

import contextlib
import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from goldnas.errors import ConfigError, list_some, read_message
from goldnas.zoo.networks import TIMM, find_network

DEFAULT = "default"
"""Names the best weights that there are."""

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Begin the names of heads that googlenet and inception_v3 are trained with, and built without
here."""

_DENSE_LAYER = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
"""How densenet's files name a layer; today's modules have no dot before the number."""


def list_weights(name: str) -> tuple[str, ...]:
    """The names of published weights of a network, the default first.

    Raises:
        ConfigError: If there is no such network.
    """
    source, _, bare = find_network(name).name.partition("/")
    if source == TIMM:
        import timm  # which is there, or there would be no such network

        listed = timm.list_pretrained(f"{bare}.*")
        tags = [one.partition(".")[2] for one in listed]
        default = _timm_settings(bare).get("tag") or ""
        return tuple(dict.fromkeys([default] * (default in tags) + tags))
    from torchvision import models

    known = models.get_model_weights(bare)
    if not len(known):
        return ()
    return tuple(dict.fromkeys([known.DEFAULT.name, *(one.name for one in known)]))


def find_image_size(name: str, weights: str | None = None) -> int | None:
    """Side in pixels of the images for published weights; None if unknown.

    Args:
        name: Name of the network.
        weights: Name of the weights; by default the default weights.
    """
    source, _, bare = find_network(name).name.partition("/")
    if source == TIMM:
        tagged = f"{bare}.{weights}" if weights else bare
        shape: tuple[int | None, ...] = _timm_settings(tagged).get("input_size", (None,))
        return shape[-1]
    known = list_weights(name)
    if not known:
        return None
    from torchvision import models

    entry = models.get_model_weights(bare)[weights or known[0]]
    size: int = entry.transforms.keywords["crop_size"]
    return size


def _timm_settings(name: str) -> Mapping[str, Any]:
    import timm

    settings = timm.get_pretrained_cfg(name)
    return {} if settings is None else vars(settings)


def resolve_weights(name: str, weights: str) -> str | None:
    """The library's name of published weights; None if there are no such weights.

    Raises:
        ConfigError: If the default weights are asked for, but no weights were published.
    """
    known = list_weights(name)
    if weights.lower() == DEFAULT:
        if not known:
            raise ConfigError(
                f"no weights were published for {find_network(name).name}; give a file as "
                "`weights`, or leave `weights` out"
            )
        return known[0]
    return weights if weights in known else None


def fetch_weights(name: str, weights: str) -> dict[str, Tensor]:
    """Published weights, from the cache of their library or its server.

    Args:
        name: Name of the network.
        weights: Name from :func:`resolve_weights`.

    Raises:
        ConfigError: If the weights cannot be fetched.
    """
    source, _, bare = find_network(name).name.partition("/")
    try:
        with _silenced():
            if source == TIMM:
                import timm

                made = timm.create_model(f"{bare}.{weights}", pretrained=True)
                state: dict[str, Tensor] = made.state_dict()
            else:
                from torchvision import models

                entry = models.get_model_weights(bare)[weights]
                state = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # of the network, the disk or the library: nearly any
        raise ConfigError(
            f"{source} cannot fetch the weights {weights} of {bare}: {read_message(error)}. "
            "Fetch them on a machine with internet access, and give the file as `weights`"
        ) from None
    return state


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Without what the libraries say on stdout, and of each of many attempts."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)


def describe_weights(name: str) -> str:
    """The values of ``weights`` for a network, for errors."""
    names = list_some(list_weights(name), 4)
    published = f", or {names}, which were published for {find_network(name).name}"
    return "a file .safetensors, .pt or .pth" + published * bool(names)


def rename_weights(name: str, state: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """Weights under the names of today's modules, without heads that are no longer built.

    Args:
        name: Name of the network.
        state: State dict of a file.
        own: Names in the network's own state dict.
    """
    known = set(own)
    kept = {k: v for k, v in state.items() if k in known or not k.startswith(_AUXILIARY)}
    if "densenet" in name:
        kept = {k if k in known else _DENSE_LAYER.sub(r"\1\2", k): v for k, v in kept.items()}
    return kept
