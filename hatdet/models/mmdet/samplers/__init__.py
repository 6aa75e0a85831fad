"""Which priors are learned of at all."""
