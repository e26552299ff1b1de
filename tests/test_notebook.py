"""The notebook of the documents runs from its first cell to its last."""

from pathlib import Path

import pytest

from nightly import at_night

nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"

# As conftest.py and its fixture quick: measure soon, however noisy the machine is, and let
# torch read its translations of operators once.
SOON = """
import functools, math, msgspec
from goldnas.profiling import measuring, onnxruntime_backend
from torch.onnx._internal.exporter._registration import ONNXRegistry
few = msgspec.structs.replace(onnxruntime_backend.IN_CONTEXT, processes=2)
onnxruntime_backend.IN_CONTEXT = few
measuring.MOST_PROCESSES = 2
measuring.NOISE_WARNS = measuring.NOISE_REFUSES = math.inf
ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
"""


@at_night
@pytest.mark.filterwarnings("default")  # those of Jupyter
def test_the_notebook_runs(tmp_path: Path) -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    shown = [cell for cell in book.cells if cell.cell_type == "code"]
    assert "QUICK = True\n" in shown[0].source
    book.cells.insert(0, nbformat.v4.new_code_cell(SOON))
    nbclient.NotebookClient(
        book,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    said = ["".join(output.get("text", "") for output in cell.outputs) for cell in shown]
    assert "us\n" in said[1]
    assert "epoch 4: " in said[2]
    (chart,) = shown[3].outputs
    assert chart.data["image/png"]
    assert " % on the test set" in said[4]
    assert "verify: " in said[5]
    assert "FLOPs" in said[5]
    # What is committed is of such a run, too.
    kept = nbformat.read(NOTEBOOK, as_version=4)
    for cell, ran in zip((c for c in kept.cells if c.cell_type == "code"), shown, strict=True):
        assert [o.output_type for o in cell.outputs] == [o.output_type for o in ran.outputs]
