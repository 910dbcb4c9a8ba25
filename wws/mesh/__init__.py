"""The mesh: who is connected, what each peer says of itself, and which connections are kept."""
