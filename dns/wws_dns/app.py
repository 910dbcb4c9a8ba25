"""`wws-dns`: the entry point of the program."""
