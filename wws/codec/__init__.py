"""Encodings: varint, protobuf, base58, base32, base64, canonical JSON. Strict, bounded, pure."""
