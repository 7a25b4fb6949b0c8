"""The command line, ``pilothouse``."""
