"""Ready-made networks: their names, accuracies and measured latencies."""
