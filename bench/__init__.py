"""Measurements of what WWS exists for, its peers beside it in the same run: `make bench`."""
