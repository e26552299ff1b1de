"""The machines that measure models: this one, or another one behind ssh or adb."""

import hashlib
import os
import re
import shlex
import sys
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from goldnas.errors import ConfigError

# Reads the runner and runs it. Neither the folder it starts in nor one beside it is where
# libraries come from.
_BOOTSTRAP = (
    "import sys,hashlib;sys.version_info<(3,9) and sys.exit('Python %d.%d is too old'"
    "%sys.version_info[:2]);sys.path=[p for p in sys.path if p not in ('','.')];"
    "s=sys.stdin.buffer.read({size});"
    "hashlib.sha256(s).hexdigest()=='{sha256}' or sys.exit('the runner arrived damaged');"
    "exec(compile(s,'runner.py','exec'),"
    "{{'__name__':'__main__','SOURCE':s,'PLACE':{place!r}}})"
)

# Whatever the user's configuration says: no questions, known hosts only, and a dead line is
# noticed within a minute.
_SSH_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)


@dataclass(frozen=True)
class Host:
    """A machine that measures.

    Args:
        name: The user's name for the machine, such as ``ssh://pi@raspberry``.
        prefix: Command that runs a command there; empty for this machine.
        python: Python there that has onnxruntime.
        place: Folder there for temporary models; None for the system's temporary folder.
        perf_test: Path there of ``onnxruntime_perf_test``, which measures without Python.
        is_gpu: Whether to measure its GPU, and not its processor.
    """

    name: str = "this machine"
    prefix: tuple[str, ...] = ()
    python: str = sys.executable
    place: str | None = None
    perf_test: str | None = None
    is_gpu: bool = False

    @property
    def is_remote(self) -> bool:
        """Whether a connection can be lost."""
        return bool(self.prefix)

    def command(self, source: bytes) -> list[str]:
        """Start the interpreter, to read the runner from its standard input."""
        sha256 = hashlib.sha256(source).hexdigest()
        code = _BOOTSTRAP.format(size=len(source), sha256=sha256, place=self.place)
        command = [self.python, "-u", "-c", code]
        # ssh and adb join what they are given, for a shell to take apart again.
        return [*self.prefix, shlex.join(command)] if self.prefix else command

    def shell(self, command: str) -> list[str]:
        """Have a shell there run a command."""
        return [*self.prefix, command] if self.prefix else ["sh", "-c", command]


def find_host(device: str, python: str | None = None, perf_test: str | None = None) -> Host:
    """The host of a device.

    Args:
        device: ``cpu`` or ``cuda``, both of this machine; ``ssh://[user@]host[:port][/folder]``,
            the host being whatever the system's ssh knows; or ``adb://SERIAL[/folder]``.
        python: Interpreter there; by default the one that runs here, or ``python3``.
        perf_test: Program there that measures in place of an interpreter.

    Raises:
        ConfigError: If it names none, or both an interpreter and a program.
    """
    if python and perf_test:
        raise ConfigError(
            f"`python={python!r}` and `perf_test={perf_test!r}` exclude each other; give one"
        )
    if device in ("cpu", "cuda"):
        here = os.path.expanduser(perf_test) if perf_test else None
        return Host(
            python=os.path.expanduser(python or sys.executable),
            perf_test=here,
            is_gpu=device == "cuda",
        )
    known = "cpu, cuda, ssh://[user@]host[:port][/folder], adb://SERIAL[/folder]"
    try:
        url = urlsplit(device)
        port = url.port
    except ValueError as error:
        raise ConfigError(f"`device` {device!r}: {error}; known: {known}") from None
    place = unquote(url.path) if url.path not in ("", "/") else None
    name = url.hostname or ""
    # As the netloc has it: hostname is in lower case, which an alias or a serial may not be.
    target = url.netloc.rpartition("@")[2].removesuffix(f":{port}").strip("[]")
    user = unquote(url.username) if url.username else None
    # Neither an option of ssh nor anything that a shell would take apart.
    plain = re.fullmatch(r"\w[\w.:%-]*|:[\w.:%-]+", target)
    odd = not plain or not name or (user or "").startswith("-")
    if odd or url.query or url.fragment or url.password or url.scheme not in ("ssh", "adb"):
        raise ConfigError(f"unknown `device` {device!r}; known: {known}")
    if url.scheme == "ssh":
        command = _read_command("GOLDNAS_SSH_COMMAND", "ssh")
        at = ["-p", str(port)] if port else []
        at += ["-l", user] if user else []
        prefix = (*command, "-T", *_SSH_OPTIONS, *at, "--", target)
    else:
        serial = f"{target}:{port}" if port else target
        command = _read_command("GOLDNAS_ADB_COMMAND", "adb")
        prefix = (*command, "-s", serial, "shell", "-T")
        if perf_test and not place:
            place = "/data/local/tmp"  # where a shell without rights may write, and run
    # Quoted, a ~ would stay one; but that is where ssh starts.
    start = (python or "python3").removeprefix("~/")
    return Host(device, prefix, start, place, perf_test and perf_test.removeprefix("~/"))


def _read_command(variable: str, default: str) -> list[str]:
    """The command that a variable of the environment names."""
    try:
        return shlex.split(os.environ.get(variable) or default)
    except ValueError as error:
        raise ConfigError(f"{variable} is not a command: {error}") from None
