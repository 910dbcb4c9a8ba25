"""`wws-ops`: what operators of bootstrap nodes look at and do, apart from the `wws` of everybody."""
