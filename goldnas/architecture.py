"""The result of a search, as data: which operators remain on which edge."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from goldnas.bounded import read_bounded
from goldnas.errors import ConfigError, read_message
from goldnas.files import write_atomic

SCHEMA_VERSION = 1

SHRUNK = "shrunk"
"""Space of the networks that are left of one network: ``network`` in their settings."""

_MOST_BYTES = 16 * 2**20


def find_origin(space: str, settings: dict[str, Any]) -> str:
    """The space whose code makes a network. For a shrunk network, that of the whole network."""
    while space == SHRUNK and isinstance(whole := settings.get("network"), dict):
        space, settings = str(whole.get("space")), whole.get("settings") or {}
    return space


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network of a search space, as data. It holds no weights and needs no torch.

    Example:
        >>> architecture = run.best.architecture
        >>> architecture.space
        'gold'
        >>> same = goldnas.Architecture.from_json(architecture.to_json())
        >>> same.fingerprint == architecture.fingerprint
        True
    """

    space: str
    """Name of the search space that builds it."""
    settings: dict[str, Any]
    """What the space needs to build it: geometry, classes and so on."""
    choices: dict[str, tuple[str, ...]]
    """Operator names by place, for example ``{"cell0.0-2": ("sep_conv_3x3", "skip_connect")}``:
    in cell 0, the edge from state 0 to node 2 keeps two operators. Places without operators are
    left out."""
    schema_version: int = SCHEMA_VERSION
    """Version of the JSON form."""

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ConfigError(
                f"this architecture has schema version {self.schema_version}, "
                f"this goldnas reads version {SCHEMA_VERSION}; use the goldnas that wrote it"
            )

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that name this architecture in file names and logs."""
        return hashlib.sha256(self.to_json()).hexdigest()[:8]

    def to_json(self) -> bytes:
        """Write one canonical line: equal architectures give equal bytes."""
        canonical = msgspec.structs.replace(
            self, choices={k: tuple(sorted(v)) for k, v in self.choices.items() if v}
        )
        return msgspec.json.encode(canonical, order="sorted")

    @classmethod
    def from_json(cls, text: bytes | str) -> "Architecture":
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigError: If ``text`` is no architecture.
        """
        try:
            raw = msgspec.json.decode(text)
            if isinstance(raw, dict) and "schema_version" not in raw:
                raise ConfigError("not an architecture: it has no schema_version")
            return msgspec.convert(raw, cls)
        except ConfigError:
            raise
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ConfigError(f"not an architecture: {read_message(error)}") from None

    def save(self, path: Path) -> None:
        """Write the JSON form, indented."""
        write_atomic(path, msgspec.json.format(self.to_json()) + b"\n")

    @classmethod
    def load(cls, path: Path) -> "Architecture":
        """Read an architecture file.

        Raises:
            ConfigError: If the file cannot be read or holds no architecture.
        """
        try:
            return cls.from_json(read_bounded(path, _MOST_BYTES))
        except OSError as error:
            raise ConfigError(
                f"cannot read architecture {path}: {error.strerror}. Give a JSON file, such as "
                "those in the folder architectures/ of a search"
            ) from None
        except ConfigError as error:
            raise ConfigError(
                f"{path}: {error}. The folder architectures/ of a search has such files"
            ) from None
