"""Where figures of searches and trainings go while they come: TensorBoard, MLflow, W&B."""
