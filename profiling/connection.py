"""A connection to a runner on a host.

goldnas starts Python on the host, and sends ``runner.py``, models and jobs over one connection.
The host only needs Python 3.9, numpy and onnxruntime.
"""

import collections
import contextlib
import hashlib
import json
import queue
import shlex
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from goldnas.errors import MeasurementError
from goldnas.profiling.host import Host

RUNNER = Path(__file__).with_name("runner.py")

_READY = "goldnas runner "
_START_S = 120.0


class UnreachableError(MeasurementError):
    """No runner can be started on the host."""


class LostConnectionError(MeasurementError):
    """The connection to the host broke."""


class SilentError(MeasurementError):
    """The runner gave no answer for too long, and was stopped."""


class NoRoomError(MeasurementError):
    """The host has no space for more models."""


class Connection:
    """A connection to a runner on a host.

    Args:
        host: The host of the runner.
        silence_s: Seconds without an answer after which the runner counts as dead.

    Raises:
        UnreachableError: If the runner does not start. The message has the host's words and a
            next step.
    """

    def __init__(self, host: Host, *, silence_s: float) -> None:
        self.host = host
        self._silence_s = silence_s
        self._stored: set[str] = set()
        self._said: collections.deque[bytes | None] = collections.deque(maxlen=20)
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        source = RUNNER.read_bytes()
        try:
            process = subprocess.Popen(
                host.command(source),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
        except OSError as error:
            raise UnreachableError(
                f"cannot start {host.command(b'')[0]}: {error.strerror}; install this program, "
                "or choose another"
            ) from None
        self._process = process
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._input: IO[bytes] = process.stdin
        reading = [(process.stdout, self._lines.put), (process.stderr, self._said.append)]
        threads = [threading.Thread(target=_read, args=a, daemon=True) for a in reading]
        for thread in threads:
            thread.start()
        self._errors = threads[1]
        self.close = weakref.finalize(self, _end, process, threads)
        """End the runner, which removes its files. This happens when goldnas ends, too."""
        self._start(source)

    def _start(self, source: bytes) -> None:
        try:
            self._input.write(source)
            self._input.flush()
            while _READY not in self._line(_START_S):
                pass  # a greeting of the host
        except (OSError, LostConnectionError, SilentError):
            self.close()
            raise UnreachableError(_advice(self.host, self._process, self._words())) from None

    def ask(self, body: bytes = b"", **request: object) -> Iterator[dict[str, Any]]:
        """Make a request, and yield the answers line by line, the final answer last.

        Raises:
            LostConnectionError: If the connection breaks.
            NoRoomError: If the host has no space for a model.
            SilentError: If the host gives no answer for too long.
        """
        if body:
            request["size"] = len(body)
        try:
            self._input.write(json.dumps(request).encode() + b"\n" + body)
            self._input.flush()
        except (OSError, ValueError):  # it is closed
            raise self._lost() from None
        while True:
            line = self._line(self._silence_s)
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # half of a line, whose end the process did not live to write
            if not isinstance(answer, dict):
                continue
            if "failed" in answer:
                raise NoRoomError(
                    f"{self.host.name}: {answer['failed']}; make room there, or choose another "
                    "folder for models (TMPDIR, or ssh://host/folder)"
                )
            yield answer
            if "done" in answer:
                return

    def facts(self) -> dict[str, Any]:
        """What the machine is, and what its onnxruntime can do."""
        (answer,) = self.ask(do="facts")
        found: dict[str, Any] = answer["done"]
        return found

    def store(self, model: bytes) -> str:
        """Send a model, once; its checksum."""
        sha256 = hashlib.sha256(model).hexdigest()
        if sha256 not in self._stored:
            list(self.ask(model, do="store", sha256=sha256))
            self._stored.add(sha256)
        return sha256

    def _line(self, seconds: float) -> str:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise SilentError(
                f"{self.host.name} gave no answer for {seconds:g} s and was stopped; try fewer "
                "threads, a smaller batch or input, or an idle machine"
            ) from None
        if line is None:
            raise self._lost()
        return line.decode(errors="replace")

    def _lost(self) -> LostConnectionError:
        self.close()
        return LostConnectionError(f"lost the connection to {self.host.name}: {self._words()}")

    def _words(self) -> str:
        """The last line of what was said on the error stream."""
        self._errors.join(timeout=5)
        said = [line.decode(errors="replace").strip() for line in self._said if line]
        lines = [line for line in said if line]
        return lines[-1] if lines else f"status {self._process.poll()}, no message"


def _read(stream: IO[bytes], take: Callable[[bytes | None], None]) -> None:
    """Pass lines on, and None at the end."""
    for line in stream:
        take(line)
    take(None)


def _end(process: "subprocess.Popen[bytes]", readers: Sequence[threading.Thread]) -> None:
    """End a runner by ending what it reads; it cleans up after itself."""
    assert process.stdin
    with contextlib.suppress(OSError):  # it is gone already
        process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for reader, stream in zip(readers, (process.stdout, process.stderr), strict=True):
        reader.join(timeout=5)
        if stream is not None and not reader.is_alive():
            stream.close()


def _advice(host: Host, process: "subprocess.Popen[bytes]", said: str) -> str:
    """What to do about a runner that did not start."""
    status = process.poll()
    advice = "check that it is switched on and can be reached"
    if "No module named" in said:
        module = said.rpartition(" ")[2].strip("'\"").partition(".")[0]
        install = shlex.join([host.python, "-m", "pip", "install", module])
        advice = f"install it there: {install}"
    elif "Host key verification failed" in said or "host key" in said.lower():
        advice = (
            "check its host key, then add the key to known_hosts: connect once by hand with ssh"
        )
    elif "Permission denied" in said and status == 255:
        advice = (
            "let ssh log in without a password, with a key in its agent or its configuration"
        )
    elif "temporary" in said.lower() or "No space left" in said or "Read-only" in said:
        advice = "make room there, or choose another folder: ssh://host/folder, or TMPDIR"
    elif "too old" in said:
        advice = "give the path of Python 3.9 or newer: `python`"
    elif status in (126, 127):
        advice = (
            f"no {host.python} there: install Python 3.9 or newer, or give its path: `python`"
        )
    elif not host.is_remote:
        advice = "check that this Python and its onnxruntime work"
    return f"cannot measure on {host.name}: {said}; {advice}"
