"""The DNS records of a network: planned, refused when unsafe, published, verified, and a way back."""
