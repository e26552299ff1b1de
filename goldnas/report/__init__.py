"""A search as one self-contained page, and its status for the terminal."""
