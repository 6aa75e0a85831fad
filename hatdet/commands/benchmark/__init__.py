"""Model files beside each other on this machine: time, size, memory, AP."""
