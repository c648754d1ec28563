"""Whether columns of a target are distributed as the baseline's."""
