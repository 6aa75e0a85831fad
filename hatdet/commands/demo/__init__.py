"""``hatdet demo``: the whole road on rendered pictures, each step the command that a user types."""
