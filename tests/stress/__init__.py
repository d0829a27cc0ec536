"""Random loads between real processes, with faults: a command of its own, `python -m tests.stress --help`."""
