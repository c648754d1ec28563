"""Whether predictions come true, and whether they are likely to."""
