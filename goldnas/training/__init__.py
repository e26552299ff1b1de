"""Training of chosen networks, from scratch or from what a search left."""
