"""Everything that the program of a board needs of an exported model, in one folder."""
