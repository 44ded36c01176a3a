"""`RayRuntime`: the clients of a call are worked for by the processes of a Ray cluster."""
