"""What `wws demo` is made of: a network of real processes on loopback, and how it is told.

records.py     keys, addresses, and what the demo's DNS says
interrupts.py  signals that end a demo in good order
processes.py   every process and file of a demo, from its start to its end
mesh.py        the network: DNS server, bootstrap nodes, agents
telling.py     steps with their times, on a terminal and elsewhere
"""
