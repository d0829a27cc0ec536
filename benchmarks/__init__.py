"""Throughput and latency against raw pyzmq, measured in separate processes, interleaved."""
