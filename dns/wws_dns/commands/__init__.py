"""The commands of `wws-dns`, a module each."""
