"""A model as files in any of the formats, each checked against the model."""
