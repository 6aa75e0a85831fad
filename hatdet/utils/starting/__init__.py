"""How this process was started, and what follows for its words."""
