"""Weights that a network begins with: of a file, or published for it."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goldnas.errors import ConfigError, read_message
from goldnas.spaces.single import SingleSpace
from goldnas.spaces.zoo import ZooSpace
from goldnas.tensor_file import compute_digest
from goldnas.weights_file import ENDINGS, read_weights, unwrap
from goldnas.zoo.pretrained import (
    describe_weights,
    fetch_weights,
    rename_weights,
    resolve_weights,
)

_MOST_OTHER_BYTES = 64 * 2**20
"""Of a file, besides what grows with the weights."""

_BATCHES = "num_batches_tracked"
"""Ends the names of what files from before PyTorch 0.4.1 do not have, and nobody reads."""

_LONGEST = 100
"""Characters of a name in a file that are shown."""


@dataclass(frozen=True)
class Pretrained:
    """The weights that a training begins with."""

    name: str
    """Of their file, without its folder; or as published."""
    sha256: str = ""
    """Of the file; of published weights, of all numbers. Empty if they cannot be had."""
    weights: Mapping[str, Tensor] | None = None
    """By name, without the classifier where that is to begin anew; None if they cannot be
    had, which only a training that has begun can do without."""
    new_classifier: bool = False
    """Whether the classifier begins with fresh weights."""
    reason: str = ""
    """Why they cannot be had."""


def load_pretrained(weights: str | Path, space: SingleSpace) -> Pretrained:
    """Read weights for a ready-made network or that of a function, and check that they fit.

    Args:
        weights: A file; or the name of published weights, for a ready-made network.
        space: The network.

    Raises:
        ConfigError: If they are not of this network, or the file cannot be read. If the file
            does not exist, the result says so.
    """
    path = Path(weights)
    ready_made = isinstance(space, ZooSpace)
    wanted = (
        describe_weights(space.network)
        if ready_made
        else f"the file of the network's own state_dict ({', '.join(ENDINGS)})"
    )
    published = None
    if path.suffix not in ENDINGS:
        published = resolve_weights(space.network, str(weights)) if ready_made else None
        if published is None and os.path.isfile(path):
            raise ConfigError(
                f"the name of `weights` {path} must end in {' or '.join(ENDINGS)}"
            )
        if published is None:
            raise ConfigError(f"there are no `weights` {weights}: give {wanted}")
    with torch.random.fork_rng(devices=[]):
        own = space.build(space.architecture(())).state_dict()
    if published is not None:
        try:
            found = fetch_weights(space.network, published)
        except ConfigError as error:
            return Pretrained(published, reason=str(error))
        digest, place = compute_digest(found), f"the weights {published}"
    else:
        most_bytes = 8 * sum(t.nbytes for t in own.values()) + _MOST_OTHER_BYTES
        place = str(path)
        try:
            content, digest = read_weights(path, most_bytes)
            found = unwrap(content, own)
        except FileNotFoundError:
            reason = f"there is no file {path} of `weights`; check the path"
            return Pretrained(path.name, reason=reason)
        except (OSError, ValueError) as error:
            told = error.strerror if isinstance(error, OSError) else None
            raise ConfigError(
                f"cannot read `weights` {path}: {told or read_message(error)}; give {wanted}"
            ) from None
    if ready_made:
        found = rename_weights(space.network, found, own)
    classifier = space.find_classifier()
    fitting = _fit(found, own, classifier, f"{place} does not fit {space.network}")
    new = not classifier <= fitting.keys()
    name = published or path.name
    return Pretrained(name, digest, fitting, new_classifier=new)


def _fit(
    found: Mapping[str, Any], own: Mapping[str, Tensor], classifier: Collection[str], what: str
) -> dict[str, Tensor]:
    """The weights that a network takes, in its types.

    A classifier that is missing or has other shapes is left out as a whole.

    Raises:
        ConfigError: Naming the first that does not fit, and how many do not.
    """
    is_new = any(_shape(found.get(name)) != _shape(own[name]) for name in classifier)
    left_out = classifier if is_new else ()
    wrong: list[str] = []
    fitting: dict[str, Tensor] = {}
    shared: dict[tuple[int, torch.Size], str] = {}
    """The first name in the file of each tensor, which layers may share."""
    for name in filter(found.__contains__, own):
        shared.setdefault((own[name].data_ptr(), own[name].shape), name)
    for name, mine in own.items():
        first = shared.get((mine.data_ptr(), mine.shape), name) if mine.numel() else name
        value = found.get(name, found.get(first))
        if name in left_out:
            continue
        if value is None and name.endswith(_BATCHES):
            fitting[name] = torch.zeros_like(mine)
        elif value is None:
            wrong.append(f"it has no {name} of {_shape(mine)}")
        elif _shape(value) != _shape(mine):
            wrong.append(f"{name} is {_shape(value)} there and {_shape(mine)} here")
        elif value.is_floating_point() != mine.is_floating_point() or value.is_complex():
            wrong.append(f"{name} is {value.dtype} there and {mine.dtype} here")
        elif not (taken := value.to(mine.dtype)).isfinite().all():
            wrong.append(f"{name} has values that are not finite")
        elif first in fitting and not torch.equal(taken, fitting[first]):
            wrong.append(f"{first} and {name} are one tensor here, and differ there")
        else:
            fitting[name] = taken.clone(memory_format=torch.contiguous_format)
    if not wrong and own and not found.keys() & fitting.keys():
        wrong.append("it has only a classifier, for other classes")
    wrong += [
        f"it has {_show(name)} of {_shape(value)}, and the network has none"
        for name, value in found.items()
        if name not in own
    ]
    if wrong:
        raise ConfigError(
            f"{what}: {wrong[0]}; {len(wrong)} of {len(own.keys() | found.keys())} tensors do "
            "not fit. Give the `weights` of this network, for inputs of this size"
        )
    return fitting


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "no tensor"
    return "x".join(map(str, value.shape)) or "one number"


def _show(name: str) -> str:
    shown = name if len(name) <= _LONGEST else name[:_LONGEST] + "..."
    return shown.replace("`", "'")
