"""Searching a space under budgets."""
