"""Networks as files: ONNX, number formats, plain PyTorch, and whether budgets hold."""
