"""The commands of real devices: `hansa serve`, `hansa join` and `hansa network`."""
