"""Short runs need few batches for the statistics of BatchNorm."""

import pytest

from spikegen.training import trainer


@pytest.fixture(autouse=True)
def _few_recalibration_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "RECALIBRATION_BATCHES", 2)
