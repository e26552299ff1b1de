import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import goldnas
from goldnas import __version__
from goldnas.errors import ConfigError
from goldnas.lut import Failed, Interpolated, LatencyTable
from goldnas.spaces import SPACES, GoldSpace
from test_fleet import PROGRAM
from workplace import invoke

SMALL = [
    *("--channels", "4", "--cells", "1", "--input", "3x8x8"),
    *("--networks", "6", "--target", "100", "--operators", "skip_connect"),
]
SMALL_SPACE = GoldSpace(channels=4, cells=1, input_shape=(3, 8, 8), operators=("skip_connect",))

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def profiled(quick: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    out = tmp_path_factory.mktemp("profiled") / "lut" / "cpu.json"
    code, stdout, stderr = invoke("profile", "--device", "cpu", *SMALL, "--out", out)
    assert code == 0, stderr
    return out, stdout, stderr


def test_profile_writes_every_row_of_the_space(profiled: tuple[Path, str, str]) -> None:
    out, stdout, stderr = profiled
    table = LatencyTable.load(out)
    rows = SMALL_SPACE.rows()
    assert table.missing(rows) == ()
    assert len(table.rows) == len(rows)
    assert stdout.startswith(f"{out}: {len(rows)} of the {len(rows)} rows")
    assert "fitted to 6 networks: off by " in stdout
    (calibration,) = table.calibrations
    assert len(calibration.networks) == 6
    # Of 19 models for rows and 6 networks, in 2 processes of 2 rounds.
    assert "measured: 100 of 100 visits" in stderr.splitlines()
    assert [path.name for path in out.parent.iterdir()] == ["cpu.json"]


def test_a_second_profile_changes_nothing(profiled: tuple[Path, str, str]) -> None:
    out = profiled[0]
    before = out.read_bytes()
    code, stdout, stderr = invoke("profile", *SMALL, "--out", out, "--json")
    assert code == 0, stderr
    assert out.read_bytes() == before
    (reply,) = json.loads(stdout)["tables"]
    assert (reply["table"], reply["networks"]) == (str(out), 6)
    assert reply["rows"] == len(SMALL_SPACE.rows())
    assert reply["mape_percent"] == LatencyTable.load(out).calibrations[0].accuracy.mape_percent


def test_show_prints_conditions_and_rows_with_units(profiled: tuple[Path, str, str]) -> None:
    out = profiled[0]
    code, stdout, _ = invoke("lut", "show", out)
    table = LatencyTable.load(out)
    assert code == 0
    assert table.conditions.backend in stdout
    assert " us " in stdout
    for row in table.rows:
        assert f" {row.operator} " in stdout
        assert f" {row.site} " in stdout


def test_show_json_is_the_file(profiled: tuple[Path, str, str]) -> None:
    out = profiled[0]
    assert invoke("lut", "show", out, "--json") == (0, out.read_text(), "")


def test_show_prints_failed_rows_with_their_error(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    table = LatencyTable.load(profiled[0])
    failed = Failed(operator="odd_operator", site="4x8x8->4/s1", error="no [kernel] for Odd")
    table.with_rows([failed]).save(tmp_path / "cpu.json")
    code, stdout, _ = invoke("lut", "show", tmp_path / "cpu.json")
    assert code == 0
    assert "no [kernel] for Odd" in stdout


def test_rows_that_fail_end_in_one_line_and_status_2(
    profiled: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from goldnas.operators import OPERATORS

    class HalfPrecision(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.to(torch.bfloat16) * 2).float()

    monkeypatch.setitem(OPERATORS, "max_pool_3x3", lambda site: HalfPrecision())
    out = tmp_path / "cpu.json"
    out.write_bytes(profiled[0].read_bytes())
    settings = [*SMALL[:-1], "max_pool_3x3"]
    code, stdout, stderr = invoke("profile", *settings, "--out", out)
    assert code == 2
    assert "rows of this space" in stdout
    error = stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert "max_pool_3x3 at " in stderr
    assert "Could not find an implementation for Mul" in stderr
    assert any(isinstance(row, Failed) for row in LatencyTable.load(out).rows)


BAD_COMMANDS = {
    "device": (["--device", "tpu"], "unknown --device 'tpu'; known: cpu, cuda, ssh"),
    "space": (["--space", "silver"], "unknown search space 'silver'; known: darts,"),
    "operator": (["--operators", "skip_connect,conv"], "unknown operator 'conv'; known: "),
    "no operator": (["--operators", ""], "unknown operator ''; known: "),
    "odd channels": (["--channels", "5"], "channels must be even, got 5"),
    "input": (["--input", "32x32"], "--input is channels, height and width"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_a_bad_setting_is_one_line_and_writes_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, stdout, stderr = invoke("profile", *arguments, "--out", tmp_path / "cpu.json")
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 1
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(stderr)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", SPACES)
def test_what_is_not_given_is_as_the_space_says(name: str) -> None:
    assert goldnas.space(name) == SPACES[name]()
    given = {"channels": 6, "input_shape": (1, 9, 9), "operators": ("skip_connect",)}
    assert goldnas.space(name, **given) == SPACES[name](**given)


def test_several_devices_are_told_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is profiled by a process of its own, which gets the words of the command."""
    started: list[list[str]] = []

    def start(words: list[object], **settings: Any) -> subprocess.Popen[str]:
        started.append([str(word) for word in words])
        return Popen([sys.executable, "-c", ""], **settings)

    Popen = subprocess.Popen  # noqa: N806  # the real one
    monkeypatch.setattr("goldnas.cli.profile_fleet.subprocess.Popen", start)
    devices = tmp_path / "all.toml"
    devices.write_text(
        "[pi]\nthreads = 4\ncores = [0, 1]\nstrict = true\n[pi.provider_options]\na = 'b'\n"
    )
    given = [
        "--space",
        "gold-imagenet",
        "--cells",
        "3",
        "--input",
        "3x64x64",
        "--networks",
        "4",
    ]
    assert invoke("profile", "--devices", devices, "--out", tmp_path, *given)[0] == 0
    (words,) = started
    assert words[words.index("profile") + 1 :] == [
        *("--threads", "4", "--cores", "0,1", "--strict", "--provider-option", "a=b"),
        *("--networks", "4", "--space", "gold-imagenet", "--cells", "3", "--input", "3x64x64"),
        *("--out", str(tmp_path / "pi.json")),
    ]


@pytest.mark.parametrize(
    "text", ["", "3", "3x32", "3x32x32x1", "0x32x32", "3x-1x32", "3X32X32"]
)
def test_only_three_positive_sizes_are_an_input(tmp_path: Path, text: str) -> None:
    code, _, stderr = invoke("profile", "--input", text, "--out", tmp_path / "cpu.json")
    assert code == 2
    assert len(stderr.splitlines()) == 1
    assert "--input" in stderr
    assert not any(tmp_path.iterdir())


def test_an_unreadable_table_is_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"schema_version": 1')
    for command in (["lut", "show", bad], ["profile", *SMALL, "--out", bad]):
        code, stdout, stderr = invoke(*command)
        assert (code, stdout) == (2, "")
        assert stderr.startswith(f"error: {bad} is not a latency table: line 1, column ")
        assert len(stderr.splitlines()) == 1
    assert bad.read_text() == '{"schema_version": 1'


def test_version_and_help() -> None:
    assert invoke("--version") == (0, f"goldnas {__version__}\n", "")
    assert "profile" in invoke("--help")[1]
    assert "Search space" in invoke("profile", "--help")[1]


@pytest.mark.parametrize("arguments", [["--help"], ["profile", "--help"], ["lut", "show"]])
def test_help_and_tables_load_no_torch(
    arguments: list[str], profiled: tuple[Path, str, str]
) -> None:
    arguments = [*arguments, str(profiled[0])] if arguments[-1] == "show" else arguments
    code = (
        "import sys; from goldnas.cli.main import app; "
        f"app({arguments!r}, standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == 0
    assert done.stdout


def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    """While it measures what a table lacks: so few models need to be exported."""
    out = tmp_path / "cpu.json"
    table = LatencyTable.load(profiled[0])
    protocol = msgspec.structs.replace(  # as the program measures
        table.conditions.protocol, processes=6, visit_ms=4.0, warmup_ms=1.0
    )
    conditions = msgspec.structs.replace(table.conditions, protocol=protocol)
    replace(table, conditions=conditions, rows=table.rows[1:], path=out).save()
    before = out.read_bytes()
    journal = tmp_path / "cpu.json.visits"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, "profile", *SMALL, "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not journal.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("interrupted; run the command again")
    assert {path.name for path in tmp_path.iterdir()} == {out.name, journal.name}
    assert out.read_bytes() == before
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# -- tables against whole networks -------------------------------------------------------------


def test_predict_says_what_a_network_takes_and_where_it_goes(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    table = LatencyTable.load(profiled[0])
    architecture = SMALL_SPACE.architecture(SMALL_SPACE.gates)
    architecture.save(tmp_path / "arch.json")
    code, stdout, stderr = invoke(
        "lut", "predict", profiled[0], tmp_path / "arch.json", "--json"
    )
    assert (code, stderr) == (0, "")
    reply = json.loads(stdout)
    assert reply["calibrated"] is True
    (calibration,) = table.calibrations
    parts = Counter(f"{o} {s}" for o, s in SMALL_SPACE.plan(architecture).parts())
    expected = calibration.intercept_us + sum(
        count * calibration.latencies_us[key] for key, count in parts.items()
    )
    assert reply["latency_us"] == pytest.approx(expected)
    rows = {f"{row['operator']} {row['site']}": row["count"] for row in reply["rows"]}
    assert rows == parts
    assert invoke("lut", "predict", profiled[0], tmp_path / "arch.json")[0] == 0


def test_check_measures_fresh_networks_now(profiled: tuple[Path, str, str]) -> None:
    code, stdout, stderr = invoke(
        "lut", "check", profiled[0], "--networks", "4", "--seed", "1", "--json"
    )
    assert code == 0, stderr
    reply = json.loads(stdout)
    assert reply.keys() >= {
        *("networks", "mape_percent", "within_5_percent", "within_10_percent"),
        *("spearman", "noise_floor_percent", "slowdown", "mape_percent_at_its_speed"),
    }
    assert reply["networks"] == 4


@pytest.mark.parametrize("slow", [True, False], ids=["a slow machine", "a bad table"])
def test_check_tells_a_machine_of_another_speed_from_a_bad_table(
    profiled: tuple[Path, str, str], tmp_path: Path, slow: bool
) -> None:
    table = LatencyTable.load(profiled[0])
    (fitted,) = table.calibrations
    networks = [
        msgspec.structs.replace(network, latency_us=4 * network.latency_us)
        for network in fitted.networks
    ]
    other = msgspec.structs.replace(
        fitted,
        intercept_us=4 * fitted.intercept_us,
        latencies_us={key: 4 * us for key, us in fitted.latencies_us.items()},
        networks=tuple(networks) if slow else fitted.networks,
    )
    replace(table, calibrations=(other,)).save(tmp_path / "other.json")
    check = ("lut", "check", tmp_path / "other.json", "--networks", "3", "--seed", "1")
    code, stdout, stderr = invoke(*check)
    assert code == 0, stderr
    assert "are off by" in stdout
    assert "measured again" in stdout
    assert ("runs at another speed" in stderr) == slow


def test_check_finds_the_networks_of_a_table_that_was_calibrated_twice(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    out = tmp_path / "cpu.json"
    out.write_bytes(profiled[0].read_bytes())
    assert invoke("lut", "calibrate", out, "--networks", "2")[0] == 0
    code, stdout, stderr = invoke("lut", "check", out, "--networks", "2", "--json")
    assert code == 0, stderr
    assert 0.2 < json.loads(stdout)["slowdown"] < 5


def test_calibrate_adds_networks(profiled: tuple[Path, str, str], tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    out.write_bytes(profiled[0].read_bytes())
    code, stdout, stderr = invoke("lut", "calibrate", out, "--networks", "3")
    assert code == 0, stderr
    assert "fitted to 9 networks of gold: cells 1, channels 4" in stdout
    assert "3 of them new" in stdout
    table = LatencyTable.load(out)
    assert len(table.calibrations[0].networks) == 9
    assert [campaign.networks for campaign in table.campaigns] == [6, 3]


def test_a_table_of_another_machine_cannot_be_checked_here(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    table = LatencyTable.load(profiled[0])
    conditions = msgspec.structs.replace(table.conditions, cpu_model="Cortex-A76")
    replace(table, conditions=conditions).save(tmp_path / "pi5.json")
    for command in ("check", "calibrate"):
        code, stdout, stderr = invoke("lut", command, tmp_path / "pi5.json")
        assert (code, stdout) == (2, "")
        assert "cpu_model was Cortex-A76, is now" in stderr
        assert "on the device of the table" in stderr


def test_a_table_without_a_calibration_cannot_be_checked(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    replace(LatencyTable.load(profiled[0]), calibrations=()).save(tmp_path / "cpu.json")
    code, _, stderr = invoke("lut", "check", tmp_path / "cpu.json")
    assert code == 2
    assert "was never calibrated" in stderr
    assert "goldnas profile --networks 20" in stderr


def test_transfer_makes_a_table_from_another_one(
    profiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    out = tmp_path / "two.json"
    options = ["--batch", "2", "--transfer", profiled[0], "--networks", "4"]
    space = SMALL[: SMALL.index("--networks")] + SMALL[SMALL.index("--operators") :]
    code, stdout, stderr = invoke("profile", *space, *options, "--out", out)
    assert code == 0, stderr
    table = LatencyTable.load(out)
    assert table.conditions.batch == 2
    assert all(isinstance(row, Interpolated) for row in table.rows)
    assert "fitted to 4 networks" in stdout
