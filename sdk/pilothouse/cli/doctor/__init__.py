"""``doctor``: what is wrong here, and what mends it."""
