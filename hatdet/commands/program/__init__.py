"""The command ``hatdet``: which command a line means, the help that lists them all, completion in shells."""
