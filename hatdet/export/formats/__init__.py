"""What ``--format`` names: a table, and a module a format that writes its files and compares them with the model."""
