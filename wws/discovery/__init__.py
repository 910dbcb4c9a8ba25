"""How a node finds its network: networks, signed bundles, DNS hints, entry points, the race between them."""
