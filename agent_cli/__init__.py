"""`wws`: the command line for people, scripts and agents. It parses, asks the node, and renders."""
