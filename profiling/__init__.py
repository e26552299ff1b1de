"""Measuring models on a device, and filling latency tables. Never imports the search."""
