"""Layers of transformers: maps as rows of tokens, and back."""
