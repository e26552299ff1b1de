"""Measuring with onnxruntime_perf_test, behind stand-ins for it and for adb."""

import os
import re
import shlex
import sys
from pathlib import Path

import msgspec
import pytest

from goldnas.errors import ConfigError, MeasurementError
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import LatencyTable
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure, Visit
from goldnas.profiling.host import find_host
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.site import Site
from nightly import at_night
from workplace import invoke

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")

pytestmark = pytest.mark.usefixtures("quick")

QUICK = msgspec.structs.replace(IN_CONTEXT, processes=2, warmup_ms=1.0, visit_ms=5.0)

ADB = """#!/bin/sh
[ "$1 $3 $4" = "-s shell -T" ] || { echo "adb: usage" >&2; exit 1; }
[ "$2" = "R58M12" ] || { echo "adb: device '$2' not found" >&2; exit 1; }
shift 4
exec sh -c "$*"
"""

# Its options, what they mean and the lines of its result file are those of the real one.
PROGRAM = """#!{python}
import argparse, time
import numpy as np, onnxruntime as ort
parser = argparse.ArgumentParser()
for name in "emirxyoS":
    parser.add_argument("-" + name)
parser.add_argument("-I", action="store_true")
parser.add_argument("model")
parser.add_argument("result")
given = parser.parse_args()
assert (given.m, given.I, given.y, given.o, given.S) == ("times", True, "1", "99", "1"), given
options = ort.SessionOptions()
options.intra_op_num_threads = int(given.x)
providers = {{"cpu": "CPUExecutionProvider"}}
session = ort.InferenceSession(given.model, options, providers=[providers[given.e]])
feeds = {{i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()}}
session.run(None, feeds)
with open(given.result, "a") as file:
    for number in range(int(given.r)):
        began = time.perf_counter()
        session.run(None, feeds)
        file.write(f"model,{{time.perf_counter() - began:.6g}},123456,100,{{number}}\\n")
print("Total iterations:", given.r)
"""

# Takes a microsecond for every hundred bytes of the model.
FAST = """#!/bin/sh
while [ $# -gt 2 ]; do [ "$1" = -r ] && calls=$2; shift; done
size=$(wc -c < "$1")
i=0
while [ $i -lt 5 ]; do echo "model,$((size / 100)).0e-6,0,0,$i" >> "$2"; i=$((i + 1)); done
"""


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the phone."""
    adb = program(tmp_path / "adb", ADB)
    monkeypatch.setenv("GOLDNAS_ADB_COMMAND", shlex.quote(str(adb)))
    place = tmp_path / "data local tmp"
    place.mkdir()
    return place


def backend(place: Path, perf_test: Path, **settings: object) -> OnnxruntimeBackend:
    device = f"adb://R58M12{place}".replace(" ", "%20")
    host = find_host(device, perf_test=str(perf_test))
    return OnnxruntimeBackend(host=host, protocol=QUICK, **settings)  # type: ignore[arg-type]


def test_a_phone_without_python_is_measured_and_left_clean(place: Path, tmp_path: Path) -> None:
    perf_test = program(tmp_path / "perf test", PROGRAM.format(python=sys.executable))
    measuring = backend(place, perf_test, cores=[0])
    small, large = (
        to_onnx(build_operator("sep_conv_3x3", Site(c, c, 16, 16)), (1, c, 16, 16))
        for c in (8, 64)
    )
    found = measuring.visit({"small": small, "large": large, "bad": b"no model"}, seed=3)
    assert isinstance(found["bad"], Failure)
    assert "perf_test status 1: " in found["bad"].error
    visits = {name: found[name] for name in ("small", "large")}
    for name, of_one in visits.items():
        assert not isinstance(of_one, Failure), (name, of_one)
        assert [visit.process for visit in of_one] == [3] * QUICK.rounds
        for visit in of_one:
            assert isinstance(visit, Visit)
            assert 0 < visit.min_us <= visit.p10_us <= visit.p25_us <= visit.median_us
            assert visit.calls >= QUICK.min_calls
    fastest = [min(v.p10_us for v in of_one) for of_one in visits.values()]  # type: ignore[union-attr]
    assert fastest[0] < fastest[1]
    assert list(place.iterdir())
    measuring.close()
    assert not list(place.iterdir())


def test_a_table_of_a_phone_says_what_measured_it(place: Path, tmp_path: Path) -> None:
    perf_test = program(tmp_path / "onnxruntime_perf_test", FAST)
    out = tmp_path / "phone.json"
    where = [f"--device=adb://R58M12{place}".replace(" ", "%20"), "--perf-test", perf_test]
    space = ["--cells", "1", "--channels", "4", "--input", "3x8x8"]
    code, _, stderr = invoke("profile", *where, *space, "--networks", "4", "--out", out)
    assert code == 0, stderr
    table = LatencyTable.load(out)
    assert table.conditions.backend.startswith("onnxruntime perf_test ")
    assert table.conditions.backend_options["io_binding"] == "inputs"
    assert len(table.calibrations[0].networks) == 4
    assert not list(place.iterdir())
    code, stdout, stderr = invoke("lut", "check", out, *where, "--networks", "2")
    assert code == 0, stderr
    assert "2 fresh networks" in stdout
    code, _, stderr = invoke("lut", "check", out)
    assert code == 2
    assert "other conditions" in stderr


@at_night
def test_an_exported_network_is_measured_where_the_table_is_of(
    place: Path, tmp_path: Path, workplace: Path
) -> None:
    perf_test = program(tmp_path / "onnxruntime_perf_test", FAST)
    where = [f"--device=adb://R58M12{place}".replace(" ", "%20"), "--perf-test", perf_test]
    space = ["--cells", "2", "--channels", "4", "--input", "1x8x8", "--networks", "4"]
    code, _, stderr = invoke("profile", *where, *space, "--out", "phone.json")
    assert code == 0, stderr
    export = ["export", "run", "--out", "net.onnx", "--latency-lut", "phone.json"]
    code, stdout, stderr = invoke(*export, *where)
    assert code == 0, stderr
    assert re.search(r"latency@phone │ +- │ +[\d.]+ (ms|us) │ +[\d.]+ (ms|us) │", stdout), (
        stdout
    )
    code, stdout, stderr = invoke(*export)  # here, where the table is not of
    assert code == 0, stderr
    assert "latency@phone not verified: the table and this machine differ in back" in stdout
    assert not list(place.iterdir())


FAILING = {
    "killed": ("#!/bin/sh\nkill -9 $$\n", "perf_test ended by signal 9: "),
    "refusing": ("#!/bin/sh\necho 'nnapi is not in this build'; exit 1\n", "not in this build"),
    "silent": ("#!/bin/sh\nexit 0\n", "perf_test status 0: no message"),
    "odd": ("#!/bin/sh\nfor f; do :; done; echo m,fast,0,0,0 > $f\n", "status 0: fast"),
}


@pytest.mark.parametrize(("text", "message"), FAILING.values(), ids=FAILING)
def test_a_program_that_fails_is_quoted(
    place: Path, tmp_path: Path, text: str, message: str
) -> None:
    measuring = backend(place, program(tmp_path / "perf_test", text))
    found = measuring.visit({"model": b"any"}, seed=0)["model"]
    assert isinstance(found, Failure)
    assert message in found.error
    measuring.close()
    assert not list(place.iterdir())


def test_a_program_that_is_not_there_is_told(place: Path, tmp_path: Path) -> None:
    with pytest.raises(
        MeasurementError, match="is not a program; put an executable onnxruntime_perf_test"
    ):
        backend(place, tmp_path / "nothing").conditions(batch=1)
    assert not list(place.iterdir())


def test_a_folder_that_cannot_be_written_is_told(place: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="give a writable folder there"):
        backend(place / "nothing", program(tmp_path / "p", FAST)).conditions(batch=1)


def test_a_phone_that_is_not_there_is_told(place: Path) -> None:
    host = find_host("adb://OTHER", perf_test="/data/local/tmp/perf_test")
    with pytest.raises(MeasurementError, match="adb: device 'OTHER' not found; check that"):
        OnnxruntimeBackend(host=host).conditions(batch=1)


def test_a_line_that_breaks_is_tried_again(place: Path, tmp_path: Path) -> None:
    # The first time the program runs, what runs it is killed, as if the cable came off.
    once = tmp_path / "once"
    text = f"#!/bin/sh\n[ -e {once} ] || {{ touch {once}; kill -9 $PPID; exit; }}\n"
    perf_test = program(tmp_path / "perf_test", text + FAST.removeprefix("#!/bin/sh\n"))
    warnings: list[str] = []
    measuring = backend(place, perf_test, patience_s=5.0, on_warning=warnings.append)
    found = measuring.visit({"model": b"x" * 5000}, seed=0)["model"]
    assert not isinstance(found, Failure)
    assert [visit.p10_us for visit in found] == pytest.approx([50.0] * QUICK.rounds)
    assert len(warnings) == 1
    assert "lost the connection to adb://R58M12" in warnings[0]
    measuring.close()
    assert not list(place.iterdir())


def test_python_and_the_program_exclude_each_other() -> None:
    with pytest.raises(
        ConfigError, match="`python='a'` and `perf_test='b'` exclude each other"
    ):
        find_host("cpu", "a", "b")


def test_it_measures_on_this_machine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "perf_test", FAST)
    monkeypatch.chdir(tmp_path)
    host = find_host("cpu", perf_test="./perf_test")
    measuring = OnnxruntimeBackend(host=host, protocol=QUICK)
    found = measuring.visit({"model": b"x" * 700}, seed=0)["model"]
    assert not isinstance(found, Failure)
    assert found[0].median_us == pytest.approx(7.0)
    measuring.close()
    assert [path.name for path in tmp_path.iterdir()] == ["perf_test"]
