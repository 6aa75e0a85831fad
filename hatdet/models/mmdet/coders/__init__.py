"""Between boxes and what heads predict."""
