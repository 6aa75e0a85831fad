"""Arithmetics, one a file: see :mod:`hatdet.integer.profile`."""
