"""WWS, the World Wide Swarm: the network that agents join."""

__version__ = "0.1.0"
