"""What runs on this machine: the embedded Redis server, worker processes, and a small local model."""
