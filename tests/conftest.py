"""Hypothesis profiles, and the tests that are skipped where packages are missing that spikegen works without.

Hypothesis takes the same examples at every run, new ones with HYPOTHESIS_PROFILE=explore.
"""

from __future__ import annotations

import importlib.util
import os
import traceback
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from spikegen.errors import MissingPackageError

# Examples build whole networks, so time limits per example would only measure how busy the machine is.
_COMMON = settings(
    deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("exact", _COMMON, derandomize=True, database=None)
settings.register_profile("explore", _COMMON, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exact"))

# Import names of packages that may be missing: lava-nc and lava-dl above Python 3.10, and those of the extra `test`.
OPTIONAL = {
    name
    for name in ("diffusers", "lava", "neurobench", "sklearn", "spikingjelly", "torchvision")
    if importlib.util.find_spec(name) is None
}
# Only these may import such a package when they are imported; elsewhere in spikegen it is an error.
_IMPORTERS = tuple(str(path) + os.sep for path in (Path(__file__).parent, Path(__file__).parents[1] / "exporters/lava"))


class _Module(pytest.Module):
    """A test module, skipped as a whole if it imports a package of :data:`OPTIONAL`."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        try:
            return [*super().collect()]
        except self.CollectError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and (cause.name or "").split(".")[0] in OPTIONAL:
                importer = traceback.extract_tb(cause.__traceback__)[-1].filename
                if os.path.realpath(importer).startswith(_IMPORTERS):
                    pytest.skip(f"{cause.name} is not installed", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Collect test modules as :class:`_Module`."""
    module: pytest.Module = _Module.from_parent(parent, path=module_path)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what starts Lava processes where there is no Lava."""
    if "lava" in OPTIONAL:
        for item in items:
            if item.get_closest_marker("lava"):
                item.add_marker(pytest.mark.skip(reason="lava-nc is not installed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Skip tests whose fixtures need a package that is missing."""
    yield from _skipping()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip tests that need a package that is missing."""
    yield from _skipping()


def _skipping() -> Generator[None, None, None]:
    """Skip for the error that says so, where packages are missing: a test that expects the error has caught it."""
    try:
        yield
    except MissingPackageError as error:
        if not OPTIONAL:
            raise
        pytest.skip(str(error).split(" it exists for")[0])
