"""The folder of a training: everything needed to read, repeat and continue it.

::

    architecture.json    the network
    config.json          settings, complete
    conditions.json      versions, device, threads
    events.jsonl         append-only log
    checkpoint.pt        the state to go on from
    weights.pt           the network's weights after the last epoch
    result.json          what it came to; written last
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from goldnas import trust
from goldnas.architecture import Architecture, find_origin
from goldnas.errors import RunError
from goldnas.run_folder import RunFolder
from goldnas.spaces import find_space, import_space
from goldnas.training.config import TrainConfig
from goldnas.training.result import TrainResult


class TrainingFolder(RunFolder):
    """One training on disk."""

    kind = "training"
    again = "train again with another `out`"
    restore = "restore it from a copy, or train again with another `out`"

    @classmethod
    def create(
        cls,
        path: Path,
        architecture: Architecture,
        config: TrainConfig,
        conditions: dict[str, Any],
        texts: Mapping[str, str] | None = None,
    ) -> "TrainingFolder":
        """Make the folder, complete, in one step; this process holds its lock then.

        Raises:
            BusyError: If another process makes the folder at the same time.
            WriteError: If the disk refuses; then there is no folder.
        """

        def fill(folder: "TrainingFolder") -> None:
            folder._write_architecture("architecture.json", architecture)
            folder._write_json("config.json", config)
            folder._write_json("conditions.json", conditions)
            trust.record(path, folder.functions(), {})

        return cls.make(path, fill, texts)

    @classmethod
    def open(cls, path: str | Path) -> "TrainingFolder":
        """Open the folder of a training.

        Raises:
            RunError: If ``path`` is not the folder of a training.
        """
        path, names = Path(path), ("architecture.json", "config.json")
        if not all(os.path.isfile(path / name) for name in names):
            raise RunError(
                f"{path} is not the folder of a training: it has no architecture.json and "
                "config.json. Give the folder of a training"
            )
        trust.keep_out_of(path)
        return cls(path)

    @classmethod
    def find(
        cls, path: Path, architecture: Architecture, config: TrainConfig
    ) -> "TrainingFolder | None":
        """The folder of a training that began with these settings; None if nothing is there.

        Raises:
            RunError: If something else is there, or another training.
        """
        if not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path)):
            return None
        folder = cls.open(path)
        differences = folder.config.differences(config)
        if folder.architecture != architecture:
            theirs = folder.architecture.fingerprint
            differences.insert(0, f"the network ({theirs}, not {architecture.fingerprint})")
        if differences:
            raise RunError(
                f"{path} has a training with other settings: {', '.join(differences)}. Give "
                "the same settings to continue it, or another folder as `out`"
            )
        return folder

    @cached_property
    def config(self) -> TrainConfig:
        """The settings.

        Raises:
            RunError: If the file is damaged.
        """
        return self._read_json("config.json", TrainConfig)

    @property
    def space(self) -> str:
        """The name of the space whose code makes the network."""
        return find_origin(self.architecture.space, self.architecture.settings)

    def import_space(self) -> None:
        """Import the function that the space is, if it is one.

        Raises:
            UntrustedError: If it is somebody else's.
            ConfigError: If it cannot be imported.
        """
        self.admit("space")
        import_space(self.space)

    @cached_property
    def architecture(self) -> Architecture:
        """The network.

        Raises:
            RunError: If the file is damaged.
        """
        return self._architecture("architecture.json")

    @property
    def saved(self) -> str:
        """That it is, and how to go on."""
        return f"saved in {self.path}; run the same command again to continue"

    @property
    def has_begun(self) -> bool:
        """Whether there is a state to go on from, or a result."""
        names = ("checkpoint.pt", "result.json")
        return any(os.path.isfile(self.path / name) for name in names)

    def result(self) -> TrainResult | None:
        """What the training came to; None if it is not done.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.path / "result.json"
        return TrainResult.load(path) if path.exists() else None

    def save_result(self, result: TrainResult, weights: dict[str, Tensor]) -> None:
        """Keep what the training came to: afterwards it is done."""
        self._write_tensors("weights.pt", weights)
        self._write_json("result.json", result)

    def network(self) -> nn.Module:
        """The network with its weights after the last epoch, in evaluation mode.

        Raises:
            UntrustedError: If its space is somebody else's function.
            RunError: If the training is not done, or a file is damaged.
        """
        if self.result() is None:
            raise RunError(
                f"the training in {self.path} is not done: continue it with the same settings "
                f"and `out={str(self.path)!r}`"
            )
        self.import_space()
        architecture = self.architecture
        module = find_space(architecture).build(architecture, gated=self.config.warm)
        return self._with_weights(module, "weights.pt")
