"""``goldnas profile --bundle``, and ``goldnas lut import`` of what such a bundle has found."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from goldnas.cli.console import print_json, say, warn

if TYPE_CHECKING:
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
    from goldnas.spaces import SearchSpace


def profile_bundle(
    out: Path,
    backend: "OnnxruntimeBackend",
    space: "SearchSpace",
    *,
    batch: int,
    networks: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Write a file that measures where it is carried to.

    Args:
        out: The file.
        backend: With the settings to measure with.
        space: Whose rows and networks are measured.
        batch: Images per call.
        networks: For the calibration.
        strict: Whether rows fail of which nodes run elsewhere.
        as_json: Whether to print what was written as JSON.
    """
    from goldnas.profiling.bundle import make_bundle

    made = make_bundle(
        out, backend, space, batch=batch, networks=networks, strict=strict, on_warning=warn
    )
    size_bytes = out.stat().st_size
    say(
        f"wrote {out}: {len(made.models)} models, {size_bytes / 1e6:.1f} MB. Carry it to the "
        f"device, run python {quote(out.name)} there, carry results.zip back, then: goldnas "
        "lut import results.zip --out lut/device.json"
    )
    if as_json:
        print_json({"bundle": out, "models": len(made.models), "size_bytes": size_bytes})


def import_bundle(file: Path, out: Path, *, bundle: Path | None, space: str = "") -> None:
    """Make a latency table of what a bundle has found; a function it names is run if given."""
    from goldnas.cli.profile_table import show_filled
    from goldnas.profiling.bundle_results import import_results
    from goldnas.spaces import import_space

    import_space(space)
    show_filled(*import_results(file, out, bundle=bundle, on_warning=warn))
