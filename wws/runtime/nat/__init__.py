"""Drivers of what a node does about NATs; the machines are in `wws.nat`."""
