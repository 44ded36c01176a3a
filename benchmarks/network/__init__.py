"""Rounds on devices: what the network costs beside computing."""
