"""A search as one page that needs nothing else, and as one screen."""
