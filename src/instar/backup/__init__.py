"""Backups: one file with all that a machine needs to be there again, and how it is written and read."""
