"""Weights & Biases: settings, figures and the front, as its environment variables say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from goldnas.loggers.listener import Row
from goldnas.loggers.run_id import keep_run_id, read_run_id


class WandbLogger:
    """A run at Weights & Biases.

    Repeated steps are not logged again, because steps there only increase.

    Args:
        folder: Folder of the run; it gives the run there its name.
        settings: Settings of the run, logged as configuration.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._run = wandb.init(
            id=read_run_id(folder, "wandb"),
            resume="allow",
            name=str(folder),
            config=dict(settings),
            reinit="create_new",
        )
        keep_run_id(folder, "wandb", self._run.id)

    def begin(self, step: int) -> None:
        """Do nothing: which step is next, the run knows."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Log figures."""
        if step >= self._run.step:
            self._run.log(dict(scalars), step=step)

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Log a table."""
        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self._run.log({name: table})

    def close(self, *, finished: bool) -> None:
        """End the run there; one that is not finished has failed, and can be resumed."""
        self._run.finish(exit_code=0 if finished else 1)


logger = WandbLogger
