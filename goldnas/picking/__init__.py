"""Picking a ready-made network for a device: what to measure, and which to take."""
