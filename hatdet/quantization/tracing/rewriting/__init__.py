"""What a forward writes in several operators or in its own words, rewritten as the operators that have integers."""
