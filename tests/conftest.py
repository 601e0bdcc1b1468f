"""Hypothesis profiles: the same examples at every run in CI and by default, new ones with HYPOTHESIS_PROFILE=explore."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Examples build whole networks, so time limits per example would only measure how busy the machine is.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("exact", derandomize=True, database=None, **_COMMON)
settings.register_profile("explore", max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exact"))
