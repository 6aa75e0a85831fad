"""Which prior learns which box."""
