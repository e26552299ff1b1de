"""What several searches came to, side by side."""
