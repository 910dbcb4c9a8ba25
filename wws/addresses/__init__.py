"""Where a node can be reached: multiaddrs, and the scope that an address has."""
