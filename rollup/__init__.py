"""Sums from units to the nation."""
