"""Ready-made networks: which there are, how accurate, and what was measured of them."""
