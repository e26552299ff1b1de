"""Networks as files: ONNX, number formats, plain PyTorch, and whether budgets hold."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""Number formats of models."""
