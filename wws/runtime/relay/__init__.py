"""Drivers of relays, from both sides; the machines are in `wws.relay`."""
