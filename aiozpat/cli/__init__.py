"""The `aiozpat` command."""
