"""Bundles and results that were damaged, mixed up or asked too much of."""

import json
import os
import resource
import shutil
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundles import (
    SMALL,
    Device,
    Json,
    Spoil,
    assert_refused,
    fabricated,
    import_,
    manifest_of,
    rewritten,
    with_entry,
    with_field,
    without,
)
from goldnas.profiling import bundle_main
from goldnas.profiling.bundle_main import (
    FOUND,
    MANIFEST,
    compute_checksum,
    read_results,
    write_results,
)
from workplace import invoke

pytestmark = pytest.mark.usefixtures("carried_quickly")


def bit_flipped(path: Path) -> None:
    """Change a model in the middle of the file, as bad storage does."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.infolist()[-1].header_offset
    content[offset + 200] ^= 1
    path.write_bytes(content)


def model_changed(path: Path) -> None:
    def change(entries: dict[str, bytes]) -> None:
        name = next(name for name in entries if name.startswith("models/"))
        entries[name] = entries[name][:-1] + b"?"

    rewritten(path, change)


def doubled(name: str) -> Spoil:
    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            content = archive.read(name)
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(name, content)

    return spoil


def bzipped(path: Path) -> None:
    """Pack in a way that unpacks without limit."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def with_size(name: str, content: bytes, size: int) -> Spoil:
    """Let an entry unpack to more than the archive says."""

    def spoil(path: Path) -> None:
        with_entry(name, content)(path)
        spoilt, entry = bytearray(path.read_bytes()), name.encode()
        for mark, offset, start in ((b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)):
            at = spoilt.index(mark)
            while spoilt[at + start : at + start + len(entry)] != entry:
                at = spoilt.index(mark, at + 1)
            spoilt[at + offset : at + offset + 4] = size.to_bytes(4, "little")
        path.write_bytes(spoilt)

    return spoil


def many_entries(count: int) -> bytes:
    """An archive of nothing but its directory."""
    entry = b"PK\x01\x02" + bytes(24) + (20).to_bytes(2, "little") + bytes(16) + bytes(20)
    size = count * len(entry)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, size, 0, 0)
    return b"PK\x03\x04" + entry * count + end


DAMAGED_BUNDLES: dict[str, tuple[Spoil, str]] = {
    "model changed": (model_changed, " has another checksum than listed; copy it again"),
    "model damaged": (bit_flipped, "is not a whole zip file: Bad CRC-32"),
    "manifest changed": (
        with_field(MANIFEST, "networks", 7),
        "was changed: the content of manifest.json has another checksum",
    ),
    "runner changed": (with_entry("runner.py"), "runner.py has another checksum"),
    "of another goldnas": (with_field(MANIFEST, "format", "goldnas bundle 9"), "one version"),
    "outside": (with_entry("../evil"), "holds '../evil', which does not belong there"),
    "absolute": (with_entry("/etc/evil"), "evil', which does not belong there"),
    "more": (with_entry("json.txt"), "holds 'json.txt'"),
    "less": (without("runner.py"), "lacks runner.py"),
    "twice": (doubled("runner.py"), "holds an entry twice"),
    "no manifest": (without(MANIFEST), "lacks manifest.json"),
    "no JSON": (with_entry(MANIFEST, b"{"), "manifest.json is not JSON"),
}


@pytest.mark.parametrize(("spoil", "message"), DAMAGED_BUNDLES.values(), ids=DAMAGED_BUNDLES)
def test_a_bundle_that_was_changed_is_not_run(
    device: Device, spoil: Spoil, message: str
) -> None:
    spoil(device.bundle)
    device.assert_refused(message)
    assert [path.name for path in device.bundle.parent.iterdir()] == ["out.zip"]


DAMAGED_RESULTS: dict[str, tuple[Spoil, str]] = {
    "found changed": (
        with_field(FOUND, "facts", {}),
        "was changed: the content of results.json has another checksum",
    ),
    "manifest changed": (with_field(MANIFEST, "networks", 7), "manifest.json has another"),
    "manifest of another": (
        with_field(MANIFEST, "networks", 7, checksum=True),
        "its manifest is of another bundle",
    ),
    "outside": (with_entry("../evil"), "holds '../evil', which does not belong there"),
    "absolute": (with_entry("/evil"), "evil', which does not belong there"),
    "less": (without(FOUND), "lacks results.json"),
    "twice": (doubled(FOUND), "holds an entry twice"),
    "huge": (
        with_entry(FOUND, b" " * (bundle_main.MOST_BYTES + 1)),
        "results.json unpacks to 67108865 bytes, but the limit is 67108864",
    ),
    "a directory without end": (
        lambda path: path.write_bytes(many_entries(300_000)),
        "is not a whole zip file: its directory is larger",
    ),
    "digits without end": (with_entry(FOUND, b"9" * 5000), "results.json is not JSON"),
    "half a character": (
        with_field(FOUND, "a", "\ud800", checksum=True),
        "results.json is not JSON",
    ),
    "packed otherwise": (bzipped, "manifest.json has an unknown compression"),
    "truncated": (
        lambda path: os.truncate(path, path.stat().st_size // 2),
        "is not a whole zip file: File is not a zip file; copy it again",
    ),
    "deep": (with_entry(FOUND, b"[" * 10**6), "results.json is not JSON"),
    "odd facts": (
        with_field(FOUND, "facts", {}, checksum=True),
        "holds impossible results: ",
    ),
    "odd runs": (
        with_field(FOUND, "runs", [{"group": "first"}], checksum=True),
        "holds impossible results: ",
    ),
    "no runs": (with_field(FOUND, "runs", [], checksum=True), "holds 0 of 4 runs"),
}


@pytest.mark.parametrize(("spoil", "message"), DAMAGED_RESULTS.values(), ids=DAMAGED_RESULTS)
def test_results_that_were_changed_make_no_table(
    made: Path, tmp_path: Path, spoil: Spoil, message: str
) -> None:
    results = fabricated(made, tmp_path / "results.zip")
    spoil(results)
    assert_refused(import_(results, tmp_path / "device.json"), message)
    assert [path.name for path in tmp_path.iterdir()] == ["results.zip"]


def runs_changed(path: Path, change: Callable[[list[Json]], object]) -> None:
    runs = read_results(path)[1]["runs"]
    change(runs)
    with_field(FOUND, "runs", runs, checksum=True)(path)


def first_line(**fields: object) -> Callable[[list[Json]], object]:
    def change(runs: list[Json]) -> None:
        line = next(line for line in runs[0]["lines"] if "p10_us" in line)
        line |= fields

    return change


def test_no_more_is_unpacked_than_an_archive_says(made: Path, tmp_path: Path) -> None:
    results = fabricated(made, tmp_path / "results.zip")
    with_size(FOUND, bytes(64 * 2**20), 1000)(results)
    tracemalloc.start()
    try:
        assert_refused(import_(results, tmp_path / "device.json"), "is not a whole zip file")
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def endless(**fields: Any) -> Spoil:
    """Ask for what would never end, as the manifest and the results say alike."""

    def spoil(path: Path) -> None:
        manifest, found = read_results(path)
        manifest["conditions"]["protocol"] |= fields
        manifest |= {"networks": fields.get("networks", 4)}
        manifest["conditions"]["protocol"].pop("networks", None)
        manifest["checksum"] = compute_checksum(manifest)
        write_results(path, manifest, {k: found[k] for k in ("measured_on", "facts", "runs")})

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (endless(processes=10**12), "would never end"),
        (endless(networks=10**12), "do not belong to"),
    ],
)
def test_what_would_never_end_is_not_begun(
    made: Path, tmp_path: Path, spoil: Spoil, message: str
) -> None:
    results = fabricated(made, tmp_path / "results.zip")
    spoil(results)
    assert_refused(import_(results, tmp_path / "device.json"), message)


ODD_RUNS: dict[str, tuple[Callable[[list[Json]], object], str]] = {
    "half": (lambda runs: runs.__delitem__(slice(2, None)), "2 of 4 runs"),
    "one twice": (lambda runs: runs.append(runs[0]), "holds other visits than its bundle asks"),
    "a visit less": (lambda runs: runs[0]["lines"].pop(), "holds other visits"),
    "zero": (first_line(p10_us=0), "Expected 'float' >= 1e-09"),
    "no number": (first_line(p10_us="fast"), "Expected 'float', got 'str'"),
    "infinite": (first_line(p10_us=float("inf")), "Expected 'float' <= "),
    "another field": (first_line(latency_ms=1), "unknown field 'latency_ms'"),
}


@pytest.mark.parametrize(("change", "message"), ODD_RUNS.values(), ids=ODD_RUNS)
def test_visits_that_lack_or_are_none_are_refused(
    made: Path,
    tmp_path: Path,
    change: Callable[[list[Json]], object],
    message: str,
) -> None:
    results = fabricated(made, tmp_path / "results.zip")
    runs_changed(results, change)
    assert_refused(import_(results, tmp_path / "device.json"), message)


def test_results_have_to_be_of_the_bundle_that_is_given(
    device: Device, made: Path, measured: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(made, tmp_path / "other.zip"))
    with_field(MANIFEST, "networks", 7, checksum=True)(other)
    out = tmp_path / "device.json"
    refused = import_(measured, out, "--bundle", other)
    assert_refused(refused, f"holds results of another bundle than {other}")
    assert_refused(import_(measured, out, "--bundle", tmp_path / "gone"), "cannot read", "gone")
    assert_refused(import_(measured, out, "--bundle", measured), "is not a bundle")
    assert not out.exists()
    shutil.copy(other, device.bundle)
    shutil.copy(measured, device.results)
    device.assert_refused("holds results of another bundle; move that file away")
    assert device.results.read_bytes() == measured.read_bytes()


def test_models_that_are_exported_differently_here_are_no_failed_rows(
    made: Path, tmp_path: Path
) -> None:
    def change(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries[MANIFEST])
        manifest["torch"] = "1.0"
        for group in manifest["groups"]:
            group["models"] |= {n: "f" * 64 for n in group["models"] if "stem" in n}
        manifest["models"]["f" * 64] = 100
        manifest["checksum"] = compute_checksum(manifest)
        entries[MANIFEST] = json.dumps(manifest).encode()

    other = Path(shutil.copy(made, tmp_path / "out.zip"))
    rewritten(other, change)
    results = fabricated(other, tmp_path / "results.zip")
    assert_refused(
        import_(results, tmp_path / "device.json"),
        "stem_cifar 3x8x8->12/s1",
        "exports to another model here",
        "and torch 1.0, and this is goldnas",
    )
    assert not (tmp_path / "device.json").exists()


def test_results_of_another_device_are_not_added_to(device: Device, made: Path) -> None:
    fabricated(made, device.results)
    device.assert_refused("was measured on another machine: cpu_model was Abacus, is ")


def test_what_is_there_already_stays(device: Device, made: Path, measured: Path) -> None:
    other = device.bundle.with_name("other")
    other.write_text("something else")
    refused = f"{other} exists, and is not a bundle of goldnas: choose another name"
    assert_refused(invoke("profile", "--bundle", other, *SMALL), refused)
    copy = Path(shutil.copy(measured, device.tmp))
    assert_refused(invoke("profile", "--bundle", copy, *SMALL), "is not a bundle of goldnas")
    assert_refused(invoke("profile", "--bundle", device.tmp, *SMALL), "Is a directory")
    assert_refused(import_(measured, other), "exists already. Choose another --out")
    device.assert_refused("other is not a whole zip file", other)
    device.assert_refused("move that file away, or give another", other)
    assert other.read_text() == "something else"


def test_a_bundle_that_was_not_carried_yet_has_no_results(made: Path, tmp_path: Path) -> None:
    refused = import_(made, tmp_path / "device.json")
    assert_refused(refused, "is a bundle. Copy it to the device, run python out.zip there")


def test_a_file_says_by_its_content_whether_it_is_results(
    measured: Path, tmp_path: Path
) -> None:
    out = tmp_path / "device.json"
    for option in (["--format", "ofa"], ["--device", "pi"], ["--threads", "2"]):
        refused = import_(measured, out, *option)
        assert_refused(refused, f"already says {option[0]}")
    text = tmp_path / "results.zip"
    text.write_text("no zip")
    assert_refused(
        import_(text, out), "is not the results.zip of a bundle; give the", "--format"
    )
    assert_refused(import_(text, out, "--bundle", measured), "is not a zip file")
    assert_refused(import_(tmp_path / "gone.zip", out), "gone.zip is not there; give the")


@pytest.mark.parametrize(
    "options",
    [
        *(["--out", "t.json"], ["--device", "ssh://pi"], ["--python", "python3"]),
        *(["--transfer", "t.json"], ["--target", "2"], ["--devices", "d.toml"]),
    ],
    ids=" ".join,
)
def test_options_that_would_do_nothing_are_refused(tmp_path: Path, options: list[str]) -> None:
    refused = invoke("profile", "--bundle", tmp_path / "out.zip", *SMALL, *options)
    assert_refused(refused, f"{options[0]} does not go with ")
    assert not any(tmp_path.iterdir())


def test_mistakes_in_the_space_are_found_when_a_bundle_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    refused = invoke("profile", "--bundle", out, *SMALL, "--operators", "conv")
    assert_refused(refused, "unknown operator 'conv'")
    refused = invoke("profile", "--bundle", out, *SMALL, "--networks", "1")
    assert_refused(refused, "a fit needs 2 networks or more")
    assert not any(tmp_path.iterdir())


def test_a_python_without_onnxruntime_is_told_what_to_install(device: Device) -> None:
    (device.modules / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\")"
    )
    device.assert_refused(
        "No module named 'onnxruntime'; this Python needs numpy and onnxruntime"
    )


def test_a_provider_that_is_not_there_is_told_of(device: Device) -> None:
    job = {**manifest_of(device.bundle)["job"], "provider": "XnnpackExecutionProvider"}
    with_field(MANIFEST, "job", job, checksum=True)(device.bundle)
    device.assert_refused("here has no XnnpackExecutionProvider, only ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not pinned")
def test_cores_that_are_not_there_are_told_of(device: Device) -> None:
    job = {**manifest_of(device.bundle)["job"], "cores": [1023]}
    with_field(MANIFEST, "job", job, checksum=True)(device.bundle)
    device.assert_refused("the bundle asks for cores [1023]")


def test_a_full_disk_is_one_line(device: Device) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    device.assert_refused("File too large; make room there, or choose another", preexec_fn=full)
    device.assert_refused(
        f"cannot write {device.tmp / 'gone' / 'results.zip.part'}: No such file",
        device.tmp / "gone" / "results.zip",
    )
