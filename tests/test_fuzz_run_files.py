"""Whatever is in a file of a run's folder or of an export, commands read it or refuse it."""

from pathlib import Path

from fuzzing import fuzz
from nightly import EXAMPLES
from spoilt_run_files import TARGETS, write_good


def test_a_spoilt_file_is_read_or_refused(tmp_path: Path) -> None:
    good, place = tmp_path / "good", tmp_path / "place"
    for folder in (good, place):
        folder.mkdir()
    write_good(good)
    fuzz(good, TARGETS, range(EXAMPLES or len(TARGETS)), place)
