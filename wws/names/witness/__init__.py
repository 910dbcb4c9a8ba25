"""What a witness of names does: messages, the book of who holds what, and the log of its word (wire.md 5)."""
