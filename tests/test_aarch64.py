r"""Measuring on another processor: the runner under an aarch64 Python, which qemu runs here.

Whether it works is tested. What it measures is how fast qemu translates: a hundred times slower
than the same model on an x86-64 without it, and the latency of no board.

GOLDNAS_AARCH64_PYTHON names the interpreter; without it these tests are skipped. On a board it
is any Python with onnxruntime. On an x86-64 Debian 12 it is made so, in an empty folder;
nothing is installed, and apt's own lists stay as they are (300 MB, ten seconds)::

    mkdir -p apt/lists/partial root/proc root/usr/lib/python3/dist-packages
    arm64="-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oAPT::Sandbox::User=root"
    arm64="$arm64 -oDir::State=$PWD/apt -oDir::Cache=$PWD/apt"
    apt-get $arm64 update
    apt-get $arm64 download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
        libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3
    for deb in *_arm64.deb; do dpkg -x "$deb" root; done
    apt-get download qemu-user-static
    dpkg --fsys-tarfile qemu-user-static_*.deb |
        tar x --strip-components=3 ./usr/bin/qemu-aarch64-static
    pip install --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        --target root/usr/local/lib/python3.11/dist-packages numpy onnxruntime

onnxruntime crashes if it reads of an x86 processor, so qemu shows it another one. And compiled
modules get a folder of their own, or they would be put among those of this machine's Python::

    printf '%s\n' 'CPU implementer : 0x41' 'CPU architecture: 8' 'CPU part : 0xd07' \
        'Model : qemu' > root/proc/cpuinfo
    cat > python <<'END'
    #!/bin/sh
    here=$(dirname "$(readlink -f "$0")")
    export PYTHONPYCACHEPREFIX="$here/cache"
    set -- "$here/root/usr/bin/python3.11" "$@"
    exec "$here/qemu-aarch64-static" -L "$here/root" -0 "$0" "$@"
    END
    chmod +x python
    export GOLDNAS_AARCH64_PYTHON="$PWD/python"

With ``-0 "$0"`` that script is sys.executable, which the runner starts its processes with.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from goldnas.exporting.onnx import to_onnx
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.site import Site

PYTHON = os.environ.get("GOLDNAS_AARCH64_PYTHON", "")

pytestmark = pytest.mark.skipif(not PYTHON, reason="GOLDNAS_AARCH64_PYTHON is not set")

SHORT = msgspec.structs.replace(
    IN_CONTEXT, processes=1, rounds=2, warmup_ms=1.0, visit_ms=5.0, min_calls=3
)


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    site = Site(16, 16, 8, 8)
    good = to_onnx(build_operator("sep_conv_3x3", site), (1, *site.input_shape))
    return {"good": good, "bad": b"no model"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the runner keeps models: what is left behind is seen."""
    folder = tmp_path / "far away"
    folder.mkdir()
    return folder


@pytest.fixture
def backend(place: Path) -> Iterator[OnnxruntimeBackend]:
    made = OnnxruntimeBackend(host=Host(python=PYTHON, place=str(place)), protocol=SHORT)
    yield made
    made.close()


def processes(word: str) -> list[int]:
    """Those whose command line has a word in it."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes()
        except OSError:
            continue  # it has ended
        if word.encode() in command:
            found.append(int(file.parent.name))
    return found


def gone(place: Path) -> bool:
    """Whether neither files nor processes are left; they have a moment for it."""
    for _ in range(200):
        if not list(place.iterdir()) and not processes(str(place)):
            return True
        time.sleep(0.05)
    return False


def test_an_interpreter_started_by_the_interpreter_is_aarch64_too() -> None:
    inner = "import platform; print(platform.machine())"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    told = subprocess.run([PYTHON, "-c", outer], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "aarch64"


def test_aarch64_is_measured_and_left_clean(
    backend: OnnxruntimeBackend, place: Path, models: dict[str, bytes]
) -> None:
    conditions = backend.conditions(batch=1)
    assert conditions.architecture == "aarch64"
    assert conditions.backend.startswith("onnxruntime ")
    found = backend.visit(models, seed=3)
    assert isinstance(found["bad"], Failure)
    assert not isinstance(found["good"], Failure)
    assert [visit.process for visit in found["good"]] == [3] * SHORT.rounds
    for visit in found["good"]:
        assert visit.calls >= SHORT.min_calls
        assert 0 < visit.min_us <= visit.p10_us <= visit.p25_us <= visit.median_us
    assert list(place.iterdir())
    assert processes(str(place))
    backend.close()
    assert gone(place)


def test_the_nodes_of_a_model_are_told_on_aarch64(
    backend: OnnxruntimeBackend, place: Path, models: dict[str, bytes]
) -> None:
    found = backend.nodes(models)
    assert isinstance(found["bad"], Failure)
    assert not isinstance(found["good"], Failure)
    convolutions = [node for node in found["good"] if "Conv" in node.operator]
    assert len(convolutions) == 4  # depthwise and pointwise, twice
    for node in convolutions:
        assert node.provider == backend.provider
        assert node.latency_us > 0
        assert sorted(node.output.split("x")) == ["1", "16", "8", "8"]  # whatever its layout
    backend.close()
    assert gone(place)


def test_a_runner_that_is_killed_on_aarch64_leaves_nothing_behind(
    backend: OnnxruntimeBackend, place: Path, models: dict[str, bytes]
) -> None:
    backend.visit({"good": models["good"]}, seed=0)
    assert list(place.glob("*/*.onnx"))
    (runner,) = processes(f"'PLACE':'{place}'")
    os.kill(runner, signal.SIGKILL)
    assert gone(place)
