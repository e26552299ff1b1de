"""The plots and pages that commands write: their kinds, and whose a file is that is there."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from goldnas.errors import ConfigError
from goldnas.files import check_replaceable, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = (".svg", ".png", ".pdf")
PAGES = (".html", ".htm")

_METADATA = {".svg": "Creator", ".png": "Software", ".pdf": "Creator"}
_MARKS = {
    ".svg": "<dc:title>{}</dc:title>",
    ".png": "Software\0{}",
    ".pdf": "/Creator ({})",
    **dict.fromkeys(PAGES, '<meta name="generator" content="{}">'),
}
"""How a file says which command drew it."""


def check_drawing(
    place: Path, kinds: tuple[str, ...], *, command: str, force: bool, setting: str = "out"
) -> None:
    """Refuse a file that is not named as a drawing, or would be lost.

    Args:
        place: Where to draw.
        kinds: Endings that are possible.
        command: That draws; it replaces its own drawings.
        force: Whether anything is to be replaced.
        setting: That names the place.

    Raises:
        ConfigError: Saying what to do instead.
    """
    kind = place.suffix.lower()
    if kind not in kinds:
        raise ConfigError(f"`{setting}` {place} must end in {', '.join(kinds)}")
    mark = _MARKS[kind].format(f"goldnas {command}").encode()
    check_replaceable(place, force=force, setting=setting, mark=mark)


def write_drawing(
    place: Path,
    figure: "Callable[[], Figure]",
    page: Callable[[], str] | None = None,
    *,
    command: str,
) -> None:
    """Write what was drawn, as the name of the file says.

    Raises:
        WriteError: If the disk refuses.
    """
    import io

    kind = place.suffix.lower()
    if page is not None and kind in PAGES:
        write_atomic(place, page())
        return
    content = io.BytesIO()
    metadata = {_METADATA[kind]: f"goldnas {command}"}
    figure().savefig(content, format=kind[1:], dpi=150, metadata=metadata)
    write_atomic(place, content.getvalue())
