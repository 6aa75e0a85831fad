"""A writer for each format that data sets are converted to."""
