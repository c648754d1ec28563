"""Whether columns and rows are as they should be."""
