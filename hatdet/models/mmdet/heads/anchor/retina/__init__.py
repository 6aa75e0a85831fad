"""RetinaNet and what was made of it."""
