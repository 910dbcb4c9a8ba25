"""Circuit relay v2: peers that nobody can dial are reached through one that everybody can.

Source: libp2p specifications, relay/circuit-v2.md; wire.md section 2. Machines and codecs without I/O; their
drivers are in `wws.runtime`.
"""
