"""Hypothesis profiles: by default the same examples at every run, new ones with HYPOTHESIS_PROFILE=explore."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Examples build whole networks, so time limits per example would only measure how busy the machine is.
_COMMON = settings(
    deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("exact", _COMMON, derandomize=True, database=None)
settings.register_profile("explore", _COMMON, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exact"))
