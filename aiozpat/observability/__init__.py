"""What can be seen of a running endpoint, client or server: snapshots, and notices of what went wrong."""
