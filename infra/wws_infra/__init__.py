"""The stack of a network's bootstrap nodes: identities, hosts, nodes, and what DNS says of them."""
