"""The deployed path beside the toolbox's, image by image."""
