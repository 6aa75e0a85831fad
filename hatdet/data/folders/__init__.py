"""Folders of pictures and annotations, of any common format, in one form: read, checked, written, split."""
