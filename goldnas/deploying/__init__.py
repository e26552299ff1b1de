"""Export of a network: its files, measurements and budget checks."""
