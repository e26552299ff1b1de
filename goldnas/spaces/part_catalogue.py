"""The distinct parts of one network, under their names in latency tables."""

import copy

import torch
from torch import nn

from goldnas.errors import ConfigError
from goldnas.operators import Part, build_operator, find_part
from goldnas.site import AnySite, Shapes
from goldnas.spaces.narrowing import structure


class PartCatalogue:
    """Names the parts of a network, and keeps one module of each for building it again.

    Args:
        space: Name of the space; names of the space's own parts begin with it.
    """

    def __init__(self, space: str) -> None:
        self._space = space
        self._modules: dict[Part, nn.Module] = {}
        """One of each."""
        self._first: dict[Part, str] = {}
        """Where it is in the network."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part once, in the order in which they were added."""
        return tuple(self._modules)

    def add_fixed(self, module: nn.Module, path: str, site: Shapes) -> Part:
        """Name a fixed part by its path; layers of torch that are alike have one name.

        Raises:
            ConfigError: If another part has its name and its site.
        """
        ours = find_part(module) is not None
        if not ours and all(
            type(m).__module__.startswith("torch.nn.") for m in module.modules()
        ):
            for part, known in self._modules.items():
                if part[1] == site and structure(known) == structure(module):
                    return part
        return self.add(module, path, path, site)

    def add(self, module: nn.Module, name: str, path: str, site: Shapes) -> Part:
        """Name a part.

        Args:
            module: The part. If it was built as a part, it keeps that name.
            name: Name of the part within the space.
            path: Path of the module within the network, for errors.
            site: Shapes that the module maps there.

        Raises:
            ConfigError: If another part has its name and its site.
        """
        own = find_part(module)
        if own is not None and own[1].input_shapes != site.input_shapes:
            raise ConfigError(
                f"{path} in space {self._space} is {own[0]} at {own[1]}, but maps {site}; "
                "build it for this site"
            )
        part = own or (f"{self._space}/{name}", site)
        self.add_named(part, module, path)
        return part

    def add_named(self, part: Part, module: nn.Module, path: str) -> None:
        """Add a part that has its name.

        Raises:
            ConfigError: If another part has its name and its site.
        """
        known = self._modules.setdefault(part, module)
        first = self._first.setdefault(part, path)
        if structure(known) != structure(module):
            raise ConfigError(
                f"{first} and {path} in space {self._space} are both {part[0]} at {part[1]}, "
                "but are built differently; they would share one latency. Rename one of them"
            )

    def build(self, operator: str, site: AnySite) -> nn.Module:
        """Build a part, with the weights that it was added with.

        Raises:
            ConfigError: If there is none such.
        """
        if (operator, site) not in self._modules:
            raise ConfigError(f"space {self._space} has no {operator} at {site}")
        module = self._modules[operator, site]
        if any(tensor.is_meta for tensor in module.state_dict().values()):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # it is measured: the same in every process
                return build_operator(operator, site)
        return copy.deepcopy(module)
