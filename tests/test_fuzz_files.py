"""Whatever is in a file that others made, what reads it takes it or refuses it."""

from pathlib import Path

from fuzzing import fuzz
from nightly import EXAMPLES
from spoilt_files import TARGETS, write_good


def test_a_spoilt_file_is_read_or_refused(tmp_path: Path) -> None:
    good, place = tmp_path / "good", tmp_path / "place"
    for folder in (good, place):
        folder.mkdir()
    write_good(good)
    fuzz(good, TARGETS, range(EXAMPLES or 50), place)
