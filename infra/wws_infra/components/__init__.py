"""Components of the stack, a file each; their type tokens are `wws:infra:<Name>`."""
