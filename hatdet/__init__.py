"""hatdet: train an object detector and ship the integer model that was evaluated, bit for bit."""

__version__ = "0.1.0"
