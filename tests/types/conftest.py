"""Hypothesis without deadlines: an example's time depends on what else the machine does, and on JAX's first calls."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("hansa", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hansa")
