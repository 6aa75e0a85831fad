"""A reader for each format of annotations."""
