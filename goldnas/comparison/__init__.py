"""Comparing the results of several searches."""
