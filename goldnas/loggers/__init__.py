"""Live loggers for searches and trainings: TensorBoard, MLflow, Weights & Biases."""
