"""The content of a file that is not what its name says."""

from pathlib import Path

from goldnas.bounded import open_regular

ZIP = b"PK\x03\x04"
"""How an archive begins, and so an ``.npz`` file."""

_BEGINNINGS = {
    b"version https://git-lfs.github.com/": (
        "a pointer of Git LFS to the file, not the file itself. Fetch the file with git lfs "
        "pull"
    ),
    b"<!doctype html": "a web page. Download the file itself, not the page that shows it",
    b"<html": "a web page. Download the file itself, not the page that shows it",
    b"<?xml": "XML, perhaps the error message of a server. Download the file again",
    b"\x1f\x8b": "compressed. Unpack it with gunzip",
    ZIP: "a zip archive, as torch.save and others write it. Unpack it, and give the file "
    "inside",
    b"ORTM": "a model in onnxruntime's own format. Give the ONNX model from which it was made",
    b"TFL3": "a model of TensorFlow Lite. Convert it to ONNX, for example with tf2onnx",
}
"""Of files, some of them after four bytes."""


def describe_other(path: Path | str, *, own: bytes = b"") -> str:
    """What a file really is, and what to do, judged by its first bytes; "" if not known.

    Args:
        path: The file.
        own: How such files begin, of which this one may be a part.
    """
    try:
        with open_regular(path) as file:
            start = file.read(64)
    except OSError:
        return ""
    if own and start.startswith(own):
        return ""
    if not start:
        return "empty. Copy or download it again"
    text = start.lstrip().lower()
    for mark, told in _BEGINNINGS.items():
        if text.startswith(mark.lower()) or start.startswith(mark, 4):
            return told
    return ""
