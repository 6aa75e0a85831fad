"""The drawings of the site: SVG, with the numbers of hatdet's own functions in them."""
