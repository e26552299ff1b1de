"""Measuring with onnxruntime's program ``onnxruntime_perf_test``, on devices without Python.

This is mostly for phones. A shell on the device, an ``sh`` with the tools of Android's toybox,
keeps the models in a folder and runs the program once per visit. The program prints the time of
each call.
"""

import contextlib
import hashlib
import random
import re
import shlex
import subprocess
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from goldnas.profiling.backend import CPU
from goldnas.profiling.connection import (
    LostConnectionError,
    NoRoomError,
    SilentError,
    UnreachableError,
)
from goldnas.profiling.host import Host

# What the program calls the execution providers.
PROGRAM_PROVIDERS = {
    CPU: "cpu",
    "CUDAExecutionProvider": "cuda",
    "OpenVINOExecutionProvider": "openvino",
    "XnnpackExecutionProvider": "xnnpack",
    "CoreMLExecutionProvider": "coreml",
    "NnapiExecutionProvider": "nnapi",
    "QNNExecutionProvider": "qnn",
}

_BEGIN, _END = "goldnas: begin", "goldnas: end "
"""What a shell says before and after a command, with its status: the rest is a greeting."""

LONGEST_WAIT_S = 120
"""For a hot machine to cool down, before a round."""
_FIRST_CALLS = 5
"""Calls of a model, to find how many fill a visit."""

Times = npt.NDArray[np.float64]
Visited = tuple[dict[str, float], str, Times | str]
"""State of the machine before the round; name of a model; its times, or why there are none."""

_FACTS = """
test -x {program} || {{ echo {program} is not a program; exit 127; }}
echo "architecture $(uname -m)"
echo "os $(uname -s) $(uname -r | cut -d. -f1,2)"
echo "cores $(grep -c ^processor /proc/cpuinfo)"
echo "board $(tr -d '\\0' < /proc/device-tree/model 2>/dev/null)"
echo "phone $(getprop ro.product.model 2>/dev/null)"
echo "processor $(grep -m1 -i '^model name' /proc/cpuinfo | cut -d: -f2)"
echo "sha256 $(sha256sum {program} | cut -c1-12)"
"""

# A folder for models; what a killed goldnas has left there is removed after a day.
_FOLDER = """
find {place} -maxdepth 1 -name 'goldnas-??????' -mtime +0 -exec rm -rf {{}} + 2>/dev/null
mktemp -d {place}/goldnas-XXXXXX
"""

# Waits while it is hot. Zones that cannot be read, or hold no number, tell nothing.
_SETTLE = """
hottest() {{
  cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | grep -E '^[0-9]+$' | sort -n | tail -1
}}
waited=0
while [ "$(hottest)0" -gt {hot_mc}0 ] && [ $waited -lt {longest_s} ]; do
  sleep 1; waited=$((waited + 1))
done
echo "state $(hottest) $waited" $(
  cat {frequencies} 2>/dev/null | sort -n | tail -1)
"""

# In the folder that the shell starts in, where a path that does not begin with / begins.
_VISIT = """
rm -f {folder}/result
{pin}{program} {options} -r {calls} {folder}/{model}.onnx {folder}/result \
  > {folder}/said 2>&1 < /dev/null
status=$?
echo "visit {index} $status"
test $status = 0 && cut -d, -f2 {folder}/result 2>/dev/null || tail -1 {folder}/said
"""


class PerfTest:
    """The program on a host, in place of :class:`goldnas.profiling.connection.Connection`.

    Args:
        host: With the program's path.
        silence_s: After so long a visit is taken for dead.

    Raises:
        UnreachableError: If no shell starts there; with what the host said.
    """

    def __init__(self, host: Host, *, silence_s: float) -> None:
        assert host.perf_test is not None
        self.host = host
        self._silence_s = silence_s
        self._program = shlex.quote(host.perf_test)
        self._stored: set[str] = set()
        self._patience_s = LONGEST_WAIT_S
        self._calls: dict[str, int] = {}
        """Calls that fill a visit of a model, by checksum; known after its first visit."""
        place = shlex.quote(host.place or "/tmp")
        status, lines = self._shell(_FOLDER.format(place=place))
        if status or not lines:
            raise UnreachableError(
                f"cannot measure on {host.name}: {_said(status, lines)}; give a writable "
                "folder there: adb://SERIAL/folder, ssh://host/folder"
            )
        self._folder = shlex.quote(lines[-1])
        self.close = weakref.finalize(self, _remove, host, self._folder)
        """Remove what was stored there."""

    def facts(self) -> dict[str, Any]:
        """What the machine is. What the program can do, it says when it is asked to do it.

        Raises:
            UnreachableError: If the program is not there.
        """
        status, lines = self._shell(_FACTS.format(program=self._program))
        if status:
            self.close()
            raise UnreachableError(
                f"cannot measure on {self.host.name}: {_said(status, lines)}; put an "
                "executable onnxruntime_perf_test there, and give its path: `perf_test`"
            )
        reply = {name: value.strip() for name, _, value in (li.partition(" ") for li in lines)}
        models = (reply.get(name) for name in ("phone", "board", "processor"))
        return {
            "cpu_model": next((m for m in models if m), "unknown"),
            "architecture": reply.get("architecture") or "unknown",
            "os": reply.get("os") or "unknown",
            "onnxruntime": f"perf_test {reply.get('sha256') or 'unknown'}",
            "providers": list(PROGRAM_PROVIDERS),
            "cores": int(reply.get("cores") or 0),
        }

    def store(self, model: bytes) -> str:
        """Send a model, once; its checksum.

        Raises:
            NoRoomError: If the host cannot keep it.
        """
        sha256 = hashlib.sha256(model).hexdigest()
        if sha256 not in self._stored:
            file = f"{self._folder}/{sha256}.onnx"
            # Through head: a shell may read more of its input than the script.
            status, lines = self._run(
                f"head -c {len(model)} > {file} && sha256sum {file}", model
            )
            if status or not lines or not lines[-1].startswith(sha256):
                self._run(f"rm -f {file}")
                raise NoRoomError(
                    f"{self.host.name} cannot keep a model of {len(model)} bytes: "
                    f"{_said(status, lines)}; make room there, or choose another folder"
                )
            self._stored.add(sha256)
        return sha256

    def ask(self, *, do: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Do a job as ``runner.py`` does it; its answers, in the same form.

        Raises:
            LostConnectionError: If the line breaks.
            SilentError: If a visit takes too long.
        """
        assert do == "run"
        if not job.get("nodes"):  # the program does not tell of nodes
            yield from self._visits(job)
        yield {"done": {"status": 0, "said": ""}}

    def _visits(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        models: dict[str, str] = dict(job["models"])
        unknown = {n: sha256 for n, sha256 in models.items() if sha256 not in self._calls}
        for _, name, times_us in self._round(unknown, job):
            if isinstance(times_us, str):
                del models[name]
                yield {"model": name, "error": times_us}
            else:
                filled = 1000 * (job["warmup_ms"] + job["visit_ms"]) / np.median(times_us)
                self._calls[unknown[name]] = max(int(filled), job["min_calls"]) + 1
        order = list(models)
        shuffle = random.Random(job["seed"]).shuffle
        for number in range(job["rounds"] if order else 0):
            shuffle(order)
            first: dict[str, float] = {}
            for state, name, times_us in self._round({n: models[n] for n in order}, job):
                if state and not first:
                    first = state
                    yield {"round": number, **state}
                if isinstance(times_us, str):
                    order.remove(name)
                    yield {"model": name, "error": times_us}
                    continue
                warm = times_us[np.cumsum(times_us) > 1000 * job["warmup_ms"]]
                yield {"model": name, **_quantiles(warm if len(warm) else times_us)}

    def _round(self, models: dict[str, str], job: dict[str, Any]) -> Iterator[Visited]:
        """Visit models by name once, in their order."""
        script = _SETTLE.format(
            hot_mc=int(1000 * job["hot_c"]),
            longest_s=self._patience_s,
            frequencies="/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
        )
        for index, sha256 in enumerate(models.values()):
            script += _VISIT.format(
                pin=_pin(job["cores"]),
                program=self._program,
                options=_options(job),
                calls=self._calls.get(sha256, _FIRST_CALLS),
                folder=self._folder,
                model=sha256,
                index=index,
            )
        status, lines = (
            self._shell(f"test -d {self._folder} || exit 1\n{script}") if models else (0, [])
        )
        if sum(line.startswith("visit ") for line in lines) < len(models):
            raise LostConnectionError(
                f"lost the connection to {self.host.name}: its shell ended early, with "
                f"{_said(status, lines)}"
            )
        state = _state(lines)
        if state.get("waited_s", 0) >= self._patience_s:
            self._patience_s = 0  # it does not get cooler
        for name, times_us in zip(models, _times_us(lines, len(models)), strict=True):
            yield state, name, times_us

    def _shell(self, script: str) -> tuple[int, list[str]]:
        """Run a script there, given as the shell's input: it may be longer than a command."""
        return self._run("sh", script.encode())

    def _run(self, command: str, stdin: bytes = b"") -> tuple[int, list[str]]:
        """Run a command there; its status, and what it said.

        Raises:
            LostConnectionError: If the line broke before it ended.
            SilentError: If it does not end.
            UnreachableError: If it cannot be started.
        """
        # Of a line that is not ended, the end is one.
        wrapped = f"echo {_BEGIN}; {{ {command}; }} 2>&1; s=$?; echo; echo {_END}$s"
        try:
            done = subprocess.run(
                self.host.shell(wrapped),
                input=stdin,
                capture_output=True,
                timeout=self._silence_s,
                check=False,
            )
        except OSError as error:
            raise UnreachableError(
                f"cannot start {self.host.shell('')[0]}: {error.strerror}; install this "
                "program, or choose another"
            ) from None
        except subprocess.TimeoutExpired:
            raise SilentError(
                f"{self.host.name} gave no answer for {self._silence_s:g} s; try a smaller "
                "batch or input, or an idle machine"
            ) from None
        reply = done.stdout.decode(errors="replace").replace("\r", "").splitlines()
        if _BEGIN not in reply or not reply[-1].startswith(_END):
            said = (done.stderr.decode(errors="replace").strip() or "no message").splitlines()
            if _BEGIN in reply or self._stored:
                raise LostConnectionError(
                    f"lost the connection to {self.host.name}: {said[-1]}"
                )
            raise UnreachableError(
                f"cannot measure on {self.host.name}: {said[-1]}; check that it is switched on "
                "and can be reached"
            )
        lines = [line for line in reply[reply.index(_BEGIN) + 1 : -1] if line.strip()]
        return int(reply[-1].removeprefix(_END)), lines


def _said(status: int, lines: list[str]) -> str:
    return lines[-1] if lines else f"status {status}, no message"


def _remove(host: Host, folder: str) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            host.shell(f"rm -rf {folder}"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )


def _options(job: dict[str, Any]) -> str:
    """What every visit tells the program: like ``runner.py`` but for the binding of outputs."""
    provider = PROGRAM_PROVIDERS[job["provider"]]
    words = ["-e", provider, "-m", "times", "-I", "-S", "1", "-o", "99"]
    words += ["-x", str(job["threads"]), "-y", "1"]
    if job["provider_options"]:
        words += ["-i", " ".join(f"{k}|{v}" for k, v in job["provider_options"].items())]
    return shlex.join(words)


def _pin(cores: list[int]) -> str:
    return f"taskset {sum(1 << core for core in cores):x} " if cores else ""


def _state(lines: list[str]) -> dict[str, float]:
    """What was read before a round: a number that was not there is not among them."""
    for line in lines:
        if match := re.fullmatch(r"state +(\d+)? *(\d+)(?: (\d+))?", line):
            heat, waited, kilohertz = match.groups()
            state = {} if heat is None else {"temperature_c": int(heat) / 1000}
            state |= {} if heat is None else {"waited_s": float(waited)}
            return state | (
                {} if kilohertz is None else {"frequency_mhz": int(kilohertz) / 1000}
            )
    return {}


def _times_us(lines: list[str], count: int) -> list[Times | str]:
    """The times of the calls of each visit, or the reason for their absence."""
    visits: list[tuple[int, list[str]]] = [(0, [])] * count
    said: list[str] = []  # what comes before the first visit is of none
    for line in lines:
        if match := re.fullmatch(r"visit (\d+) (\d+)", line):
            said = []
            visits[int(match[1])] = (int(match[2]), said)
        else:
            said.append(line)
    found: list[Times | str] = []
    for status, said in visits:
        try:
            times_us = 1e6 * np.array([float(line) for line in said])
        except ValueError:
            times_us = np.array([])
        if status == 0 and len(times_us) and (times_us > 0).all():
            found.append(times_us)
        else:
            reason = f"ended by signal {status - 128}" if status > 128 else f"status {status}"
            found.append(f"perf_test {reason}: {' '.join(said) or 'no message'}")
    return found


def _quantiles(times_us: Times) -> dict[str, float]:
    low, p10, p25, median = map(float, np.quantile(times_us, [0, 0.1, 0.25, 0.5]))
    quantiles = {"min_us": low, "p10_us": p10, "p25_us": p25, "median_us": median}
    return {"calls": len(times_us), **quantiles}
