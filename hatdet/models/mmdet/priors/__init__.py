"""Points and anchors that outputs stand for."""
