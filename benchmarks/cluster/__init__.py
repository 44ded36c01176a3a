"""What a round costs on a Ray cluster."""
