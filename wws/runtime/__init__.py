"""The node as a process: the only package that opens sockets and files, starts tasks and reads a clock."""
