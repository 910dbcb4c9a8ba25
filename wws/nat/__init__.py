"""Finding out where we can be reached, and helping others to: AutoNAT, mappings, hole punching."""
