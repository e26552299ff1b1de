"""Measuring on a phone: a stand-in for adb, which runs here what it is to run there."""

import os
import shlex
import sys
from pathlib import Path

import msgspec
import pytest

from goldnas.errors import MeasurementError
from goldnas.exporting.onnx import to_onnx
from goldnas.operators import build_operator
from goldnas.profiling.backend import Failure
from goldnas.profiling.host import find_host
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.site import Site

QUICK = msgspec.structs.replace(IN_CONTEXT, processes=2)

# As adb does, it joins what follows and has a shell there take it apart; only one phone is on.
ADB = """#!/bin/sh
[ "$1 $3 $4" = "-s shell -T" ] || { echo "adb: usage" >&2; exit 1; }
[ "$2" = "R58M12" ] || { echo "adb: device '$2' not found" >&2; exit 1; }
shift 4
exec sh -c "$*"
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "adb"
    program.write_text(ADB)
    program.chmod(0o755)
    monkeypatch.setenv("GOLDNAS_ADB_COMMAND", shlex.quote(str(program)))
    return program


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_phone_is_measured_and_left_clean(adb: Path, tmp_path: Path) -> None:
    place = tmp_path / "data local tmp"
    place.mkdir()
    host = find_host(f"adb://R58M12{place}".replace(" ", "%20"), sys.executable)
    backend = OnnxruntimeBackend(host=host, protocol=QUICK)
    model = to_onnx(build_operator("sep_conv_3x3", Site(16, 16, 8, 8)), (1, 16, 8, 8))
    found = backend.visit({"good": model, "bad": b"no model"}, seed=0)
    assert not isinstance(found["good"], Failure)
    assert isinstance(found["bad"], Failure)
    assert list(place.iterdir())
    backend.close()
    assert not list(place.iterdir())


def test_a_phone_that_is_not_there_is_told(adb: Path) -> None:
    backend = OnnxruntimeBackend(host=find_host("adb://OTHER", sys.executable))
    with pytest.raises(MeasurementError, match="adb: device 'OTHER' not found; check that"):
        backend.conditions(batch=1)


def test_without_adb_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDNAS_ADB_COMMAND", "no-such-adb")
    backend = OnnxruntimeBackend(host=find_host("adb://R58M12"))
    with pytest.raises(MeasurementError, match="cannot start no-such-adb"):
        backend.conditions(batch=1)
