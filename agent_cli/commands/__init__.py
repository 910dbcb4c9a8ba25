"""The commands of `wws`, one module each; imported only when the command is used."""
