"""``goldnas profile --bundle``, and ``goldnas lut import`` of what such a bundle has found."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from goldnas.cli.console import say, warn

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
) -> None:
    """Write a file that measures where it is carried to.

    Args:
        out: The file.
        backend: With the settings to measure with.
        space: Whose rows and networks are measured.
        batch: Images per call.
        networks: For the calibration.
        strict: Whether rows fail of which nodes run elsewhere.
    """
    from goldnas.profiling.bundle import make_bundle

    made = make_bundle(
        out, backend, space, batch=batch, networks=networks, strict=strict, on_warning=warn
    )
    megabytes = out.stat().st_size / 1e6
    say(
        f"wrote {out}: {len(made.models)} models, {megabytes:.1f} MB. Carry it to the device, "
        f"run python {quote(out.name)} there, carry results.zip back, then: goldnas lut import "
        "results.zip --out lut/device.json"
    )


def import_bundle(file: Path, out: Path, *, bundle: Path | None, space: str = "") -> None:
    """Make a latency table of what a bundle has found; a function it names is run if given."""
    from goldnas.cli.profile_table import show_filled
    from goldnas.profiling.bundle import import_results
    from goldnas.spaces import import_space

    import_space(space)
    show_filled(*import_results(file, out, bundle=bundle, on_warning=warn))
