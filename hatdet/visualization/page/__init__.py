"""Pages in one HTML file each: the frame with its style, and the parts that are put into it."""
