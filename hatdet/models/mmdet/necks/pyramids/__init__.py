"""Feature pyramids: top-down, bottom-up, balanced, recursive."""
