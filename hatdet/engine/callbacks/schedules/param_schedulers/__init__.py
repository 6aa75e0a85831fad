"""Schedules of MMEngine: each step changes the present value."""
