"""What a checkpoint says about the run that it is from, and how another run takes it up."""
