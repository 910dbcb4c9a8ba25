"""Witnesses on a host: asking them, and being one."""
