"""Devices, processes, and how a training ends on a signal."""
