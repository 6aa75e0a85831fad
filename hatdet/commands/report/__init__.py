"""``hatdet report``: one page on a run."""
