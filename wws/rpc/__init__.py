"""The local JSON-RPC interface: its wire, its methods and who may call them. No I/O."""
