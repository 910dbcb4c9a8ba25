"""The distributed hash table: libp2p Kademlia under `/wws/kad/1.0.0`, without I/O."""
