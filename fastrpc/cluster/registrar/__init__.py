"""Serve as a registry: leases, and what keeps them over a restart."""
