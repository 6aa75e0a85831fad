"""Decoders that look boxes and scores up by code: for heads that say so (``coding()``)."""
