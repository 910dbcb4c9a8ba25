"""QUIC v1 without I/O, over aioquic: the only package that imports it."""
