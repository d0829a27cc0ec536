"""Level 1 under stress: lanes between two processes, each of one pattern."""
