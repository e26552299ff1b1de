"""Picking a ready-made network for a device: which networks to measure, and which to take."""
