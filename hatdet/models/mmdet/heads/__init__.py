"""Feature maps -> raw maps, losses and boxes."""
