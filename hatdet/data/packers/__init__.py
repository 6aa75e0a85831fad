"""Packers: from a data set as it is published to the one file that training reads."""
