"""Networks as files: ONNX, number formats, plain PyTorch, and whether budgets hold."""

from goldnas.resource_names import PRECISIONS

__all__ = ["PRECISIONS"]
