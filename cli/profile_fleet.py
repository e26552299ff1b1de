"""``goldnas profile --devices``: several devices at once, a table each."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from goldnas.bounded import read_bounded
from goldnas.cli.console import as_text, note, out, print_json, say
from goldnas.cli.wording import join_words, option_words
from goldnas.errors import ConfigError, MeasurementError, TableError, read_message
from goldnas.files import check_writable
from goldnas.profiling.config import TableConfig
from goldnas.settings import describe_fields

_PROGRAM = (
    "from goldnas.parent import end_with_parent; end_with_parent({parent}); "
    "from goldnas.__main__ import main; main()"
)

_MOST_BYTES = 2**20
_MOST_DEVICES = 100
_OF_ALL = {"networks", "transfer", "target_percent"}
_KINDS = {name: kind for name, kind, _ in describe_fields(TableConfig) if name not in _OF_ALL}
"""What a device may say of itself; everything else is the same for all."""


def profile_fleet(
    devices: Path,
    folder: Path,
    common: Mapping[str, Any],
    *,
    wait: bool = False,
    as_json: bool = False,
) -> None:
    """Profile each device of a file in a process of its own.

    Args:
        devices: A TOML file; each of its tables is a device.
        folder: For a latency table of each, by its name.
        common: Options of ``goldnas profile`` that are the same for all, as they were typed.
        wait: Whether to wait for processes that measure for one of the tables.
        as_json: Whether to print what came of each as JSON.

    Raises:
        ConfigError: If the file is not as it should be; nothing has been started then.
        MeasurementError: If a device failed; the others have ended by then.
    """
    fleet = read_fleet(devices)
    options = [word for name, value in common.items() for word in option_words(name, value)]
    options += ["--wait"] if wait else []
    program = _PROGRAM.format(parent=os.getpid())
    check_writable(folder / "devices")
    tables = {name: folder / f"{name}.json" for name in fleet}
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", program, "profile", *own, *options, "--out", tables[name]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )
        for name, own in fleet.items()
    }
    began = time.monotonic()
    last: dict[str, str] = {}
    seconds: dict[str, float] = {}

    def follow(name: str) -> None:
        with processes[name] as process:
            for line in process.stdout or ():
                last[name] = line.strip()
                note(f"{name}: {line.rstrip()}")
        seconds[name] = time.monotonic() - began

    threads = [threading.Thread(target=follow, args=[name]) for name in processes]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:  # the others have got it, too
        for process in processes.values():
            process.terminate()
        raise
    failed = [name for name, process in processes.items() if process.returncode]
    outcomes = [_outcome(name, path, seconds[name]) for name, path in tables.items()]
    if as_json:
        print_json({"devices": [o | {"failed": o["device"] in failed} for o in outcomes]})
    else:
        _print(outcomes, failed, last)
    if failed:
        raise MeasurementError(
            f"{len(failed)} of {len(fleet)} devices failed: {', '.join(failed)}. Run the same "
            "command again to continue"
        )


def read_fleet(path: Path) -> dict[str, list[str]]:
    """Options of ``goldnas profile`` by device.

    Raises:
        ConfigError: If the file cannot be read or is not as it should be.
    """
    try:
        content = tomllib.loads(read_bounded(path, _MOST_BYTES).decode())
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}. Give a TOML file with a table per device"
        ) from None
    except (ValueError, RecursionError) as error:  # of numbers of thousands of digits, too
        raise ConfigError(
            f"{path} is not a TOML file: {read_message(error)}. Begin each device with a line "
            "like [pi-5]"
        ) from None
    if not content:
        raise ConfigError(f"{path} names no device. Begin one with a line like [raspberry]")
    if len(content) > _MOST_DEVICES:
        raise ConfigError(
            f"{path} names {len(content)} devices; at most {_MOST_DEVICES} can be measured at "
            "a time. Put the others in another file"
        )
    return {name: _options(path, name, table) for name, table in content.items()}


def _options(path: Path, name: str, table: Any) -> list[str]:
    # The name becomes that of a file.
    if not isinstance(table, dict) or not re.fullmatch(r"\w[\w.-]{0,199}", name):
        raise ConfigError(
            f"{path}: {name[:60]!r} is not in the table of a device. Begin a device with a "
            "line like [pi-5]"
        )
    options: list[str] = []
    for key, value in table.items():
        place = f"{path}: {key[:60]!r} of [{name}]"
        if key not in _KINDS:
            raise ConfigError(f"{place} is unknown; known: {', '.join(_KINDS)}")
        if isinstance(value, dict):  # whose values are texts, however they are written
            value = {name: str(one) for name, one in value.items()}
        try:
            msgspec.convert(value, _KINDS[key])
        except msgspec.ValidationError as error:
            raise ConfigError(f"{place} is {value!r:.200}: {read_message(error)}") from None
        words = [] if value is False else [*option_words(key, value)]  # a flag that is off
        if any("\0" in word for word in words):
            raise ConfigError(
                f"{place} is {value!r:.200}: a text cannot have a zero byte; take it out"
            )
        options += words
    return options


def _outcome(name: str, path: Path, seconds: float) -> dict[str, Any]:
    """What is known of a device once its process has ended; None for what its table lacks."""
    from goldnas.lut import Failed, LatencyTable

    rows = networks = mape_percent = None
    with contextlib.suppress(TableError):  # there is none, or a damaged one
        table = LatencyTable.load(path)
        rows = sum(not isinstance(row, Failed) for row in table.rows)
        if table.calibrations:
            networks = len(table.calibrations[-1].networks)
            mape_percent = table.calibrations[-1].accuracy.mape_percent
    return {
        "device": name,
        "table": path,
        "rows": rows,
        "networks": networks,
        "mape_percent": mape_percent,
        "seconds": seconds,
    }


def _print(
    outcomes: Sequence[dict[str, Any]], failed: Sequence[str], last: dict[str, str]
) -> None:
    from rich.table import Table

    shown = Table("device")
    for header in ("rows", "networks", "error\n%", "seconds"):
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_column("")
    good = []
    for outcome in outcomes:
        name, path, error = outcome["device"], str(outcome["table"]), outcome["mape_percent"]
        told = as_text(last.get(name, ""), "red") if name in failed else as_text(path)
        counts = ("-" if outcome[c] is None else str(outcome[c]) for c in ("rows", "networks"))
        error = "-" if error is None else f"{error:.2f}"
        shown.add_row(as_text(name), *counts, error, f"{outcome['seconds']:.0f}", told)
        good += [] if name in failed else [path]
    out.print(shown)
    if good:
        words = [word for path in good for word in ("--latency-lut", Path(path))]
        say(f"search with: {join_words(*words)}")
