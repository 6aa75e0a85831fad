"""Pyramids whose connections were searched for, or form a grid."""
