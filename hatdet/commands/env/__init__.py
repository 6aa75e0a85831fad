"""``hatdet env``: what a bug report needs."""
