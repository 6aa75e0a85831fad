"""The packed file: LMDB pages, records and how they come to be."""
