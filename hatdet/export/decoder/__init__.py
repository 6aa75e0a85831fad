"""The decoders that go with a file: from its outputs to boxes, in C and Python."""
