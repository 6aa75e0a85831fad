"""Configs with the mark ``_vocabulary_``: MMDetection's words for hatdet's own RetinaNet."""
