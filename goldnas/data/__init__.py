"""Data for training, and scores on it."""
