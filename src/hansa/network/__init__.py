"""Computations on real devices: a coordinator, devices that dial out to it, and rounds that survive both."""
