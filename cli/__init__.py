"""The ``goldnas`` command line."""
