"""The files that Arm's Vela compiles for Ethos-U."""
