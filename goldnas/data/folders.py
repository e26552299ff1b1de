"""Folders of images, one for each class: what is in them, and what is left out."""

import os
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from goldnas.data.files import IMAGE_EXTENSIONS
from goldnas.errors import DataError, is_text, show_name

_SHOWN = 3
"""Examples, at most, of what is left out."""


@dataclass
class ClassFolders:
    """The images of one part of a dataset, in the order of their classes and names."""

    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """By reason, what is no image of a class."""

    def leave_out(self, reason: str, name: str) -> None:
        """Note what is not used, and why."""
        self.left_out.setdefault(reason, []).append(name)


def list_classes(folder: Path) -> list[str]:
    """The folders of classes, sorted, without hidden ones and links upwards."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_class(folder, entry))


def _is_class(folder: Path, entry: "os.DirEntry[str]") -> bool:
    around = _holds(os.path.realpath(entry.path), os.path.realpath(folder))
    return entry.is_dir() and not _is_hidden(entry.name) and not around


def read_class_folders(folder: Path) -> ClassFolders:
    """Find the images of a folder with one folder per class.

    Images may lie in folders of a class's folder. Links to folders are followed, except to
    a folder that contains the link or was read for this class. Names with a dot are skipped.

    Raises:
        DataError: If a class has no images.
        OSError: If the system does not let it be read.
    """
    found = ClassFolders(classes=list_classes(folder))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name not in found.classes and not _is_hidden(entry.name):
                found.leave_out("in no class folder", entry.path)
    for name in found.classes:
        if not is_text(name):
            raise DataError(
                f"the class {show_name(name)} of {folder} has a name that is not UTF-8, and "
                "logs need UTF-8; rename the folder"
            )
    for label, name in enumerate(found.classes):
        before = len(found.paths)
        # Sorted by folder, then by name: the order that torchvision's ImageFolder gives.
        for place, files in sorted(_walk(folder / name, found)):
            for file in sorted(file for file in files if not _is_hidden(file)):
                path = os.path.join(place, file)
                if os.path.splitext(file)[1].lower() not in IMAGE_EXTENSIONS:
                    kind = os.path.splitext(file)[1] or "no ending"
                    found.leave_out(f"of a format that goldnas does not read, {kind}", path)
                else:
                    found.paths.append(path)
                    found.labels.append(label)
        if len(found.paths) == before:
            raise DataError(
                f"the folder {folder / name} has no images; fill it, or remove it from every "
                f"part. {describe_left_out(found) or 'It is empty'}"
            )
    return found


def _walk(folder: Path, found: ClassFolders) -> Iterator[tuple[str, list[str]]]:
    """Each folder in a folder, with its files."""
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        here = os.path.realpath(place)
        for name in list(folders):
            path = os.path.join(place, name)
            target = os.path.realpath(path)
            if _is_hidden(name):
                folders.remove(name)
            elif target in seen or _holds(target, here):
                folders.remove(name)
                found.leave_out(
                    "a link to a folder that was read already, or that contains the link", path
                )
            seen.add(target)
        yield place, files


def _holds(folder: str, other: str) -> bool:
    """Whether a folder is another one, or around it; both without links."""
    return os.path.commonpath([folder, other]) == folder


def _refuse(error: OSError) -> None:
    raise error


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def describe_left_out(found: ClassFolders) -> str:
    """A sentence on what was left out, and why; empty if everything was taken."""
    if not found.left_out:
        return ""
    reasons = []
    for reason, paths in sorted(found.left_out.items()):
        names = [show_name(os.path.basename(path)) for path in paths[:_SHOWN]]
        more = ", ..." if len(paths) > _SHOWN else ""
        reasons.append(f"{len(paths)} {reason} ({', '.join(names)}{more})")
    return f"Left out: {'; '.join(reasons)}"


def quote_lookalike(name: str, names: Collection[str]) -> str:
    """A name, with escapes if another of these names looks like it.

    Names may differ in case, spaces, and how an accent is written: in files that were copied
    from macOS, the accent is a character of its own.
    """
    alike = [other for other in names if _fold(other) == _fold(name)]
    return name if len(alike) < 2 else ascii(name)


def _fold(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def choose_test_part(root: Path) -> tuple[str, str]:
    """The folder of the test set, and a note on the folder that is not used.

    The test set is ``test/``; or ``val/``, if ``test/`` does not exist or lacks a folder for
    each class. ImageNet is such a case: its ``test/`` has no labels.
    """
    classes = list_classes(root / "train")
    there = [name for name in ("test", "val") if (root / name).is_dir()]
    if there != ["test", "val"]:
        return (there or ["test"])[0], ""
    if list_classes(root / "test") != classes and list_classes(root / "val") == classes:
        return (
            "val",
            "test/ has other folders than train/ and is not used; the test set is val/",
        )
    return "test", "val/ is not used: the test set is test/, and a part of train/ is held out"
