"""Anchors whose place and shape the network says itself."""
