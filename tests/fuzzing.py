"""Fuzzing: a file that goldnas wrote is spoilt, and commands that read it are run.

Whatever is in the file, a command does its work or says in one line why not: no traceback, no
waiting, no memory without end. A file of tests has a folder of good files and a list of
:class:`Target`, and calls :func:`fuzz`. Each case follows from its number, so that a failure
can be had again; its folder is left where the message says.
"""

import contextlib
import io
import json
import os
import resource
import shlex
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from forked import SERVER
from mutations import LONG_TEXTS, REAL_NUMBERS, SHORT_TEXTS, WHOLE_NUMBERS

MOST_SECONDS = 10.0
"""Of the processor, whatever else runs on the machine."""
MOST_GROWTH = 2**30
"""Bytes of memory."""
_MOST_MEMORY = 24 * 2**30
"""Of addresses: a case that wants more ends, and the machine does not."""

Mutator = Callable[[Random, bytes], bytes]
"""Spoils the bytes of a file."""


class Target(NamedTuple):
    """A file that outlives the program, and what reads it."""

    path: str
    """Below the folder of good files."""
    mutators: Sequence[Mutator]
    """Of which each case takes one."""
    readers: Sequence[str | Callable[[], object]]
    """Commands of goldnas without its name, or functions that raise a GoldnasError alone. They
    run in the folder, of which each case has its own copy. Functions, and mutators, are at the
    top of their modules: another process has to find them."""
    statuses: tuple[int, ...] = (0, 2)
    """With which the commands may end."""


class Case(NamedTuple):
    """What one case found."""

    number: int
    target: str
    reader: str
    mutator: str
    seconds: float
    growth: int
    """Bytes of memory, at most."""
    status: int | None
    """None where the process died."""
    wrong: str
    """Empty if all is as it should be."""

    def __str__(self) -> str:
        return (
            f"case {self.number}: {self.target} by {self.mutator}, {self.reader!r}: "
            f"status {self.status}, {self.seconds:.1f} s, {self.growth / 2**20:.0f} MiB\n"
            f"{self.wrong}"
        )


def fuzz(
    good: Path, targets: Sequence[Target], cases: range | Sequence[int], place: Path
) -> list[Case]:
    """Run cases, and fail with those that went wrong.

    Args:
        good: The folder of good files.
        targets: In turns.
        cases: Their numbers; a case follows from its number and the targets.
        place: An empty folder, in which those of the cases that failed are left.

    Raises:
        AssertionError: Listing what went wrong.
    """
    worker = _Worker(good, targets, place)
    try:
        done = [worker.run(number) for number in cases]
    finally:
        worker.close()
    failed = [case for case in done if case.wrong]
    slowest = max(done, key=lambda case: case.seconds)
    largest = max(done, key=lambda case: case.growth)
    print(
        f"{len(done)} cases, {len(failed)} wrong, {dict(Counter(c.status for c in done))}; "
        f"slowest {slowest.seconds:.1f} s (case {slowest.number}), most memory "
        f"{largest.growth / 2**20:.0f} MiB (case {largest.number})"
    )
    told = "\n\n".join(map(str, failed))
    assert not failed, f"{len(failed)} of {len(done)} cases; folders in {place}\n\n{told}"
    return done


# -- the process that runs cases ---------------------------------------------------------------


class _Worker:
    """Runs cases in a process of its own, which may die or hang."""

    def __init__(self, good: Path, targets: Sequence[Target], place: Path) -> None:
        self._good, self._targets, self._place = good, targets, place
        self._process: Any = None
        self._connection: Any = None

    def run(self, number: int) -> Case:
        if self._process is None:
            self._start()
        self._connection.send(number)
        began, answer = time.monotonic(), None
        with contextlib.suppress(EOFError, ConnectionError):
            # Far over the limit, so that what is too slow is seen to be so.
            if self._connection.poll(6 * MOST_SECONDS):
                answer = self._connection.recv()
        lasted = time.monotonic() - began
        if answer is None or answer.wrong:
            self.close()
        if answer is not None:
            return answer
        target, reader, mutator, _ = _draw(self._targets, number)
        wrong = "it hangs" if lasted > MOST_SECONDS else "its process died"
        told = _name(reader), _name(mutator)
        return Case(number, target.path, *told, lasted, 0, None, wrong)

    def _start(self) -> None:
        mine, theirs = SERVER.Pipe()
        arguments = (theirs, self._good, self._targets, self._place)
        self._process = SERVER.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._connection = mine

    def close(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection: Connection, good: Path, targets: Sequence[Target], place: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    warnings.simplefilter("error")
    while True:
        try:
            number = connection.recv()
        except EOFError:
            return
        case = _run(good, targets, place, number)
        connection.send(case)
        if case.wrong:  # and may have left anything behind
            return


def _draw(
    targets: Sequence[Target], number: int
) -> tuple[Target, str | Callable[[], object], Mutator, Random]:
    """What a case is of, and whence its mutator draws."""
    random = Random(number)
    target = targets[number % len(targets)]
    return target, random.choice(target.readers), random.choice(target.mutators), random


def _run(good: Path, targets: Sequence[Target], place: Path, number: int) -> Case:
    target, reader, mutator, random = _draw(targets, number)
    folder = place / f"case-{number}"
    shutil.copytree(good, folder, symlinks=True)
    path = folder / target.path
    path.write_bytes(mutator(random, path.read_bytes()))
    os.chdir(folder)
    before = _forget_peak()
    began = time.process_time()
    status, wrong = _read(reader, target.statuses)
    seconds, growth = time.process_time() - began, max(0, _peak() - before)
    os.chdir(place)
    if seconds > MOST_SECONDS:
        wrong = f"it takes too long. {wrong}"
    if growth > MOST_GROWTH:
        wrong = f"it takes too much memory. {wrong}"
    if not wrong:
        shutil.rmtree(folder)
    told = _name(reader), _name(mutator)
    return Case(number, target.path, *told, seconds, growth, status, wrong)


def _read(
    reader: str | Callable[[], object], statuses: tuple[int, ...]
) -> tuple[int | None, str]:
    """Run a reader: its status, and what is wrong."""
    from typer.testing import CliRunner

    from goldnas.cli.main import app
    from goldnas.errors import GoldnasError

    if callable(reader):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reader()
        except GoldnasError as error:
            text = str(error)
            good = "\n" not in text and text.isprintable()
            return error.status, "" if good else f"said {text!r}"
        except BaseException:
            return None, traceback.format_exc(limit=-6)
        return 0, ""
    result = CliRunner().invoke(app, shlex.split(reader))
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        return None, "".join(traceback.format_exception(error, limit=-6))
    if result.exit_code not in statuses:
        return result.exit_code, f"status {result.exit_code}: {result.stderr[-2000:]}"
    if "Traceback" in result.output:
        return result.exit_code, result.output[-2000:]
    if result.exit_code == 2:
        errors = [one for one in result.stderr.splitlines() if one.startswith("error: ")]
        if len(errors) != 1 or not result.stderr.endswith(errors[0] + "\n"):
            return 2, f"not one line: {result.stderr[-2000:]}"
    return result.exit_code, ""


def _name(one: Any) -> str:
    return one if isinstance(one, str) else one.__name__


def _forget_peak() -> int:
    """Let the peak of memory begin anew; bytes in use."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _peak() -> int:
    return _memory("VmHWM")


def _memory(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


# -- mutators: of bytes ------------------------------------------------------------------------


def spoil_bytes(random: Random, content: bytes) -> bytes:
    """Cut a file off, or change some of its bytes, or its encoding."""
    match random.randrange(12):
        case 0:
            return b""
        case 1:
            return random.randbytes(random.choice([1, 16, 4096]))
        case 2:
            return b"\xef\xbb\xbf" + content
        case 3:
            return content.decode("latin-1").encode("utf-16")
        case 4:
            return content[: random.randrange(len(content) + 1)]
        case 5:
            return content + content
        case 6:
            return content + random.choice([b"\0", b"\n", b"}", b"\xff", bytes(4096)])
        case 7:
            return content.replace(b"\n", b"\r\n")
    spoilt = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 8])):
        place = random.randrange(len(spoilt) + 1)
        end = place + random.choice([0, 1, 1, 4, 64])
        some = [b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"9", b'"', random.randbytes(4)]
        spoilt[place:end] = random.choice(some)
    return bytes(spoilt)


# -- mutators: of values -----------------------------------------------------------------------


def odd_value(random: Random) -> Any:
    """What nobody expects where a value is."""
    match random.randrange(8):
        case 0:
            return random.choice([None, True, False, [], {}, [[]], {"a": 1}, [None], [1, "a"]])
        case 1 | 2:
            return random.choice(WHOLE_NUMBERS)
        case 3:
            return random.choice(REAL_NUMBERS)
        case 4:
            return random.choice(SHORT_TEXTS)
        case 5:
            return random.choice(LONG_TEXTS)
        case 6:
            return random.choice([10**12, -5, -100_000, 10**6, 3, 1e12, -1.0, 1e-9])
    return random.choice([["a"] * 50_000, *_WRITTEN])


_WRITTEN = {
    "<digits>": "9" * 5000,  # Python reads and prints no number of so many
    "<negative>": "-" + "9" * 5000,
    "<nested>": "[" * 100_000 + "]" * 100_000,
    "<lists>": "[" * 90 + "]" * 90,
}
"""Values that are only texts until a file is written."""


def spoil_value(random: Random, value: Any, odd: Callable[[Random], Any] = odd_value) -> Any:
    """A copy of plain values with one place changed: replaced, removed, doubled or renamed."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list | tuple):
        keys = list(range(len(value)))
    if not keys or random.random() < 0.08:
        if type(value) in (int, float) and random.random() < 0.5:
            return random.choice([-value, value + 1, value * 1000, str(value)])
        return odd(random)
    key = random.choice(keys)
    changed = dict(value) if isinstance(value, dict) else list(value)
    match random.randrange(10):
        case 0:
            del changed[key]
        case 1 if isinstance(changed, list):
            changed.insert(key, changed[key])
        case 1:
            changed[random.choice(SHORT_TEXTS + LONG_TEXTS)] = changed[key]
        case 2 if isinstance(changed, list):
            random.shuffle(changed)
        case 2:
            changed[key] = changed[random.choice(keys)]
        case _:
            changed[key] = spoil_value(random, changed[key], odd)
    return tuple(changed) if isinstance(value, tuple) else changed


# -- mutators: of JSON, and of lines of it -----------------------------------------------------


def spoil_json(random: Random, content: bytes) -> bytes:
    """Change some places of a document, or how it is written."""
    document = json.loads(content)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        document = spoil_value(random, document)
    return _written(random, document)


def spoil_lines(random: Random, content: bytes) -> bytes:
    """Change some lines of a log, their number or their order."""
    lines = content.splitlines()
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        place = random.randrange(len(lines)) if lines else 0
        match random.randrange(10):
            case 0:
                lines[place:] = []
            case 1:
                random.shuffle(lines)
            case 2:
                lines = lines[place:] + lines[:place]
            case 3:
                lines[place:place] = lines[place : place + 1] * random.choice([1, 2, 1000])
            case 4:
                lines[place:place] = [random.choice([b"", b"{}", b"[]", b"null", b"x", b"\0"])]
            case _ if lines:
                with contextlib.suppress(ValueError, RecursionError):  # it was spoilt before
                    event = spoil_value(random, json.loads(lines[place]))
                    lines[place] = _written(random, event)
    return b"".join(line + b"\n" for line in lines)


def _written(random: Random, document: Any) -> bytes:
    """A document as JSON, now and then with a key twice."""
    text = _spelt(document)
    if random.random() < 0.1 and text.startswith("{"):
        text = '{"schema_version": 1, "epochs": 2, ' + text[1:]
    return text.encode()


def _spelt(value: Any) -> str:
    text = json.dumps(value, default=str)
    for name, meant in _WRITTEN.items():
        text = text.replace(f'"{name}"', meant)
    return text


# -- mutators: of TOML -------------------------------------------------------------------------


def spoil_toml(random: Random, content: bytes) -> bytes:
    """Change the value, or the key, of some lines."""
    lines = content.decode().splitlines()
    settings = [n for n, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    for place in random.sample(settings, min(len(settings), random.choice([1, 1, 2]))):
        key, _, value = lines[place].partition("=")
        match random.randrange(6):
            case 0:
                lines[place] = random.choice(["a.b", "[x]", "x", '""']) + f" = {value}"
            case 1:
                lines[place:place] = [lines[place]]
            case 2:
                lines[place] = key
            case _:
                lines[place] = f"{key}= {_spelt(odd_value(random))}"
    return "\n".join(lines).encode()
