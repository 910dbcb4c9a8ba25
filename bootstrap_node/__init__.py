"""The bootstrap, relay and witness node: `wws-connector --bootstrap-mode` by another name."""
