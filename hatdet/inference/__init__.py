"""A trained model as a function of pictures: any file that hatdet writes, without its data set."""
