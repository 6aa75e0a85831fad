"""Values for options, found by trials."""
