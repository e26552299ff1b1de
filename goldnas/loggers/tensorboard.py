"""TensorBoard: event files in the run's folder, complete after every event of the run."""

import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from goldnas.loggers.listener import Row


class TensorBoardLogger:
    """Writes event files for ``tensorboard --logdir``.

    torch's SummaryWriter will not do: its thread ends in a traceback if the disk is full.

    Args:
        folder: Folder of the run; the files go to ``tensorboard/`` in it.
        settings: Settings of the run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._step = 0
        # The files of a folder are read by the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = folder / "tensorboard" / name
        self._file.parent.mkdir(exist_ok=True)
        self._write(Event(file_version="brain.Event:2"))

    def begin(self, step: int) -> None:
        """Make TensorBoard forget all values after this step."""
        self._step = step
        session = SessionLog(status=SessionLog.START)
        self._write(Event(step=step + 1 if step else 0, session_log=session))
        if step == 0:
            settings = json.dumps(self._settings, indent=2)
            # Four spaces make it code, in Markdown.
            code = "".join(f"    {line}\n" for line in settings.splitlines())
            self._write_text("settings", code)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Write scalars, in float32, as TensorBoard keeps them."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._step = step
        self._write(Event(step=step, summary=Summary(value=values)))

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Write a table as text, at the last step."""
        lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
        markdown = "".join(f"| {' | '.join(map(_shown, line))} |\n" for line in lines)
        self._write_text(name, markdown)

    def close(self, *, finished: bool) -> None:
        """Do nothing: all is written."""

    def _write_text(self, tag: str, markdown: str) -> None:
        value = Summary.Value(
            tag=tag,
            metadata=create_summary_metadata(display_name=tag, description=""),
            tensor=TensorProto(dtype="DT_STRING", string_val=[markdown.encode()]),
        )
        self._write(Event(step=self._step, summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        with self._file.open("ab") as file:
            file.write(record.getvalue())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|")


logger = TensorBoardLogger
