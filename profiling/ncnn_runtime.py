"""ncnn on a processor. pnnx, a program of its own, converts ONNX into its files."""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import ncnn

from goldnas.errors import MeasurementError
from goldnas.profiling.processor_runtimes import Array

_LONGEST_S = 600


class Ncnn:
    """Loads models in exact fp32.

    Args:
        threads: Threads for one operator.
        folder: Keeps converted models, by their checksums.
    """

    def __init__(self, threads: int, folder: Path) -> None:
        self.version = version("ncnn")
        self.options: Mapping[str, str] = {
            "storage": "fp32",
            "arithmetic": "fp32",
            "allocator": "pool",
            "pnnx": version("pnnx"),
        }
        self._threads = threads
        self._folder = folder

    def prepare(self, model: bytes) -> "Network":
        """See :meth:`Runtime.prepare`."""
        place = self._folder / hashlib.sha256(model).hexdigest()
        if not place.is_dir():
            _convert(model, place)
        network = Network(self._threads, _read_batches(place))
        network.load(place)
        return network


class Network:
    """A network with its inputs.

    Args:
        threads: Threads for one operator.
        batches: The axis of images of each input ``in0`` and output ``out0``; 233 for none.
    """

    def __init__(self, threads: int, batches: dict[str, int]) -> None:
        self._batches = batches
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        for name in dir(options):
            if name.startswith(("use_fp16", "use_bf16")):
                setattr(options, name, False)
        # As its own benchmark does: memory of one call is used again by the next.
        self._allocators = (ncnn.UnlockedPoolAllocator(), ncnn.UnlockedPoolAllocator())
        options.blob_allocator, options.workspace_allocator = self._allocators
        self._fed: list[tuple[str, Any]] = []
        self._results: list[Any] = []
        self._wanted = [name for name in batches if name.startswith("out")]

    def load(self, place: Path) -> None:
        """Read what pnnx wrote.

        Raises:
            MeasurementError: If it has a layer that ncnn does not have.
        """
        param = place / "net.ncnn.param"
        if self._net.load_param(str(param)) or self._net.load_model(
            str(place / "net.ncnn.bin")
        ):
            unknown = [
                f"{name} ({kind})"
                for kind, name in _list_layers(param)
                if ncnn.layer_to_index(kind) < 0
            ]
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise MeasurementError(
                f"ncnn has no layer for {', '.join(unknown[:3]) or 'a node'}{more} of the "
                "converted model"
            )

    def feed(self, inputs: Sequence[Array]) -> None:
        """See :meth:`Model.feed`."""
        names = [name for name in self._batches if name not in self._wanted]
        self._fed = [
            (name, ncnn.Mat(value, batch_index=self._batches[name]).clone())
            for name, value in zip(names, inputs, strict=True)
        ]

    def call(self) -> None:
        """See :meth:`Model.call`."""
        extractor = self._net.create_extractor()
        for name, value in self._fed:
            extractor.input(name, value)
        self._results = [extractor.extract(name) for name in self._wanted]

    def outputs(self) -> list[Array]:
        """See :meth:`Model.outputs`.

        Raises:
            MeasurementError: If the last call failed.
        """
        found = []
        for name, (status, value) in zip(self._wanted, self._results, strict=True):
            if status:
                raise MeasurementError(f"ncnn does not compute output {name}: status {status}")
            found.append(value.numpy(batch_index=self._batches[name]).copy())
        return found

    def nodes(self, calls: int) -> list[dict[str, Any]]:
        """Is never called: the package has no profiler."""
        raise NotImplementedError


def _convert(model: bytes, place: Path) -> None:
    """Have pnnx write the files of a model into a folder.

    Raises:
        MeasurementError: If it does not take the model; with its last words.
    """
    scratch = place.with_name(f"{place.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "net.onnx").write_bytes(model)
    command = [_find_pnnx(), "net.onnx", "fp16=0"]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, check=False, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"pnnx was not done after {_LONGEST_S} s") from None
    if done.returncode or not (scratch / "net.ncnn.param").is_file():
        said = (done.stdout + done.stderr).decode(errors="replace")
        lines = [line for line in said.splitlines() if "fail" in line or "rror" in line]
        last = (lines or said.splitlines() or ["no message"])[-1]
        shutil.rmtree(scratch)
        raise MeasurementError(f"pnnx does not convert the model: {' '.join(last.split())}")
    scratch.rename(place)


def _find_pnnx() -> str:
    """The program. Importing its package would import torch, which takes seconds."""
    name = "pnnx.exe" if sys.platform == "win32" else "pnnx"
    return str(distribution("pnnx").locate_file(f"pnnx/{name}"))


def _read_batches(place: Path) -> dict[str, int]:
    """The axes of images of inputs and outputs, from the program that pnnx writes beside."""
    source = (place / "net_ncnn.py").read_text()
    found = re.findall(r"\b((?:in|out)\d+)\.numpy\((?:\), )?batch_index=(\d+)", source)
    return {name: int(axis) for name, axis in found}


def _list_layers(param: Path) -> list[tuple[str, str]]:
    """Types and names of the layers in a file of ncnn."""
    lines = (line.split() for line in param.read_text().splitlines()[2:])
    return [(words[0], words[1]) for words in lines if len(words) > 1]
