"""AZP/1 without I/O: no sockets, no loop, no clock. README.md beside this file is its specification."""
