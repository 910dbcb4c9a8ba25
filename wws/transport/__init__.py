"""Byte streams between two peers, without I/O: multistream-select, Noise, yamux, and the whole stack as one.

A driver feeds what a socket brought into `SecureConnection.receive_data` and writes what `data_to_send`
gives back. What every transport has in common is `wws.transport.muxed.MuxedConnection`.
"""
