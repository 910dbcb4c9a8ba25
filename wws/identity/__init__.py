"""Who a node is: Ed25519 keys, PeerIds, DIDs, and the proof of work that slows down who wants many."""
