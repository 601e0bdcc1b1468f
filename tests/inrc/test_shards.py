"""Shards on the host: whatever their number, together they are one run of `spikegen sample`."""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ConfigError, JobError
from spikegen.hardware.inrc import Sampling, merge_results, open_job, run_job
from spikegen.hardware.inrc.results import check_result, write_result
from spikegen.hardware.inrc.shards import run_shard
from spikegen.runtime import Session
from tests.cli.commands import refuse, succeed, summary


def deploy(*options: Any, pipeline: str = "tiny.h5", output: str = "job") -> Path:
    succeed("deploy", pipeline, "--partition", "p", "--backend", "simulator", *options, "-o", output)
    return Path(output)


def finish(job: Path, *shards: int) -> list[str]:
    """Run shards here, as the host would; returns what is logged."""
    said: list[str] = []
    run_job(job, shards, said.append)
    return said


def sampling(images: int, shards: int) -> Sampling:
    return Sampling(images, 1, 0, shards, None, {}, {}, None)


@pytest.mark.parametrize(("images", "shards"), [(1, 1), (7, 3), (64, 4), (1000, 1000), (5, 4)])
def test_shards_share_the_images(images: int, shards: int) -> None:
    parts = [sampling(images, shards).range_of(shard) for shard in range(shards)]
    assert [image for part in parts for image in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("images", "shards", "message"),
    [(3, 4, r"4 shards of 3 images, allowed 1\.\.3"), (3, 0, r"0 shards of 3"), (9999, 1001, r"allowed 1\.\.1000")],
)
def test_more_shards_than_images_are_refused(images: int, shards: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampling(images, shards)


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        ("tiny.h5", ("--steps", 4)),
        ("tiny.h5", ("--steps", 4, "--solver", "ddpm", "--seed", 9, "--batch", 2)),
        ("tiny.h5", ("--steps", 4, "--solver", "ddim", "--eta", 0.7, "--spacing", "trailing")),
        ("tokens.h5", ()),
        ("tokens.h5", ("--steps", 3, "--temperature", 1.5, "--seed", 3)),
    ],
)
def test_the_number_of_shards_changes_no_byte(
    folder: Path, shards: int, pipeline: str, options: tuple[Any, ...]
) -> None:
    finish(deploy("-n", 5, *options, "--shards", shards, pipeline=pipeline))
    suffixes = ["png", "npy", "json"]
    tokens: list[tuple[str, str]] = [(), ()]  # type: ignore[list-item]
    if pipeline == "tokens.h5":
        tokens = [("--tokens", "job.tokens"), ("--tokens", "here.tokens")]
        suffixes.append("tokens")
    succeed("fetch", "job", "-o", "job.png", "--npy", "job.npy", "--counts", "job.json", *tokens[0])
    files = ("-o", "here.png", "--npy", "here.npy", "--counts", "here.json")
    succeed("sample", pipeline, "-n", 5, *options, *files, *tokens[1])
    for suffix in suffixes:
        assert Path(f"job.{suffix}").read_bytes() == Path(f"here.{suffix}").read_bytes(), suffix


def test_solvers_of_diffusers_too(folder: Path) -> None:
    options = ("-n", 3, "--steps", 4, "--solver", "dpm-solver++")
    finish(deploy(*options, "--shards", 2))
    assert "diffusers==" in Path("job/requirements.txt").read_text()
    succeed("fetch", "job", "-o", "job.png", "--npy", "job.npy")
    succeed("sample", "tiny.h5", *options, "-o", "here.png", "--npy", "here.npy")
    np.testing.assert_array_equal(np.load("job.npy"), np.load("here.npy"))


def test_threshold_guidance_is_part_of_the_pipeline_in_the_folder(folder: Path) -> None:
    options = ("-n", 2, "--steps", 2, "--threshold-scale", 1.01)
    finish(deploy(*options))
    succeed("fetch", "job", "-o", "job.png", "--counts", "job.json")
    succeed("sample", "tiny.h5", *options, "-o", "here.png", "--counts", "here.json")
    assert Path("job.json").read_bytes() == Path("here.json").read_bytes()


def test_the_summary_of_a_fetch(folder: Path) -> None:
    finish(deploy("-n", 4, "--steps", 3, "--shards", 2, "--seed", 8))
    found = summary("fetch", "job", "-o", "a.png")
    assert (found["images"], found["steps"], found["seed"], found["shards"]) == (4, 3, 8, 2)
    assert found["networks"]["denoiser"]["evaluations"] == 12
    assert (found["output"], found["npy"], found["backend"]) == ("a.png", None, "simulator")
    shown = succeed("fetch", "job", "-o", "a.png").stdout
    assert "4 x 3 (seed 8)" in shown
    assert "Wrote a.png" in shown


def test_a_shard_is_run_once(folder: Path) -> None:
    job = deploy("-n", 4, "--steps", 2, "--shards", 2)
    assert finish(job, 1) == ["shard 1: step 1 of 2", "shard 1: step 2 of 2", "shard 1: finished"]
    assert finish(job, 1) == ["nothing to do: the results are complete"]
    assert finish(job) == ["shard 0: step 1 of 2", "shard 0: step 2 of 2", "shard 0: finished"]
    assert list((job / "states").iterdir()) == []
    assert sorted(path.name for path in (job / "results").iterdir()) == ["shard-0000", "shard-0001"]


def test_of_two_tasks_with_one_shard_the_first_result_stays(folder: Path) -> None:
    path = deploy("-n", 1, "--steps", 1)
    job = open_job(path)
    results = [run_shard(job, 0, job.pipeline(), lambda _: None) for _ in range(2)]
    write_result(job, 0, job.pipeline(), results[0])
    first = (path / "results/shard-0000").stat().st_ino
    write_result(job, 0, job.pipeline(), results[1])
    assert (path / "results/shard-0000").stat().st_ino == first
    assert len(list((path / "results").iterdir())) == 1


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are interrupted when they have completed ``steps``."""
    step = Session.step

    def stepping(session: Session, *arguments: Any) -> None:
        if session.completed == steps:
            raise KeyboardInterrupt
        step(session, *arguments)

    monkeypatch.setattr(Session, "step", stepping)


def test_a_shard_goes_on_after_its_last_step(folder: Path) -> None:
    job = deploy("-n", 5, "--steps", 4, "--solver", "ddpm", "--shards", 2)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            finish(job, 1)
    assert not (job / "results/shard-0001").exists()
    assert finish(job, 1)[:2] == ["shard 1: goes on after step 3 of 4", "shard 1: step 4 of 4"]
    finish(job)
    succeed("fetch", "job", "-o", "job.png", "--counts", "job.json")
    succeed("sample", "tiny.h5", "-n", 5, "--steps", 4, "--solver", "ddpm", "-o", "here.png", "--counts", "here.json")
    assert Path("job.png").read_bytes() == Path("here.png").read_bytes()
    assert Path("job.json").read_bytes() == Path("here.json").read_bytes()


def test_a_damaged_state_costs_the_steps_and_not_the_shard(folder: Path) -> None:
    job = deploy("-n", 2, "--steps", 2)
    (job / "states/shard-0000.state").write_bytes(b"half a st")
    said = finish(job)
    assert said[0].startswith("shard 0: begins anew: ")
    assert said[1:] == ["shard 0: step 1 of 2", "shard 0: step 2 of 2", "shard 0: finished"]


@pytest.mark.parametrize(("package", "wanted"), [("numpy", "1.20.0"), ("spikegen", "9.9"), ("lava-nc", "0.1")])
def test_other_versions_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, wanted: str) -> None:
    versions = {"python": ".".join(platform.python_version_tuple()[:2]), package: wanted}
    monkeypatch.setattr("spikegen.hardware.inrc.job.needed_versions", lambda *_: versions)
    with pytest.raises(JobError, match=rf"the job needs {package} {wanted} \(here [^)]+\); see requirements.txt"):
        finish(deploy("-n", 1, "--steps", 1))


def test_a_package_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikegen.hardware.inrc.job.needed_versions", lambda *_: {"python": "3.1", "lava-loihi": "0"})
    with pytest.raises(JobError, match=r"needs python 3\.1 \(here 3\.1\d\), lava-loihi 0 \(here it is missing\)"):
        finish(deploy("-n", 1, "--steps", 1))


def test_a_number_that_is_no_shard(folder: Path) -> None:
    with pytest.raises(JobError, match=r"there is no shard 2, its shards are 0\.\.1"):
        finish(deploy("-n", 2, "--steps", 1, "--shards", 2), 2)


# --- results that cannot be what the shard wrote


@pytest.fixture
def finished(folder: Path) -> Path:
    job = deploy("-n", 4, "--steps", 2, "--shards", 2)
    finish(job)
    return job


@pytest.mark.parametrize("name", ["images.npy", "counts.json", "result.json"])
@pytest.mark.parametrize("edit", [lambda data: data[:-9], lambda data: data[:0], lambda data: b"\x80" + data[1:]])
def test_a_file_of_a_result_was_changed(finished: Path, name: str, edit: Any) -> None:
    path = finished / "results/shard-0001" / name
    path.write_bytes(edit(path.read_bytes()))
    refuse(1, "`spikegen submit` runs the shard again", "fetch", "job", "-o", "a.png", "--npy", "a.npy")
    assert finish(finished)[-1] == "shard 1: finished"  # and it is
    succeed("fetch", "job", "-o", "a.png")


def test_a_file_of_a_result_is_missing(finished: Path) -> None:
    (finished / "results/shard-0001/counts.json").unlink()
    refuse(1, "shard-0001: it holds images.npy, not what it says", "fetch", "job", "-o", "a.png")


def test_the_result_of_another_shard_or_job(finished: Path) -> None:
    results = finished / "results"
    (results / "shard-0001").rename(results / "aside")
    (results / "shard-0000").rename(results / "shard-0001")
    (results / "aside").rename(results / "shard-0000")
    refuse(1, "result.json: this is the result of another job or shard", "fetch", "job", "-o", "a.png")
    finish(deploy("-n", 4, "--steps", 2, "--shards", 2, "--seed", 1, output="other"))
    (results / "shard-0000").rename("elsewhere")
    Path("other/results/shard-0000").rename(results / "shard-0000")
    refuse(1, "result.json: this is the result of another job or shard", "fetch", "job", "-o", "a.png")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 1, 4, 5)), "it holds float64 (2, 1, 4, 5), expected float64 (2, 1, 4, 4)"),
        (np.zeros((2, 1, 4, 4), np.float32), "it holds float32"),
        (np.full((2, 1, 4, 4), np.nan), "it holds values outside -1..1"),
        (np.full((2, 1, 4, 4), 1.5), "it holds values outside -1..1"),
        (np.array([None]), "not a readable array"),
    ],
)
def test_images_that_the_shard_cannot_have_made_though_the_digests_hold(
    finished: Path, array: Any, message: str
) -> None:
    shard = finished / "results/shard-0001"
    np.save(shard / "images.npy", array)
    sign(shard)
    check_result(open_job(finished), 1)
    refuse(1, message, "fetch", "job", "-o", "a.png")


def test_counts_of_other_images_though_the_digests_hold(finished: Path) -> None:
    path = finished / "results/shard-0001/counts.json"
    path.write_text(path.read_text().replace('"images": 2', '"images": 3'))
    sign(path.parent)
    refuse(1, "counts.json: these are not the counts of 2 images of this job", "fetch", "job", "-o", "a.png")
    path.write_text("{}")
    sign(path.parent)
    refuse(1, "not a counts file", "fetch", "job", "-o", "a.png")


def test_shards_that_counted_other_steps(finished: Path) -> None:
    path = finished / "results/shard-0001/counts.json"
    path.write_text(path.read_text().replace('"step": 20', '"step": 21'))
    sign(path.parent)
    with pytest.raises(JobError, match="the shards counted other steps of denoiser"):
        merge_results(open_job(finished), open_job(finished).pipeline())


def sign(shard: Path) -> None:
    """Write the digests of the files as they are."""
    from spikegen.hardware.inrc.job import file_digest

    document = json.loads((shard / "result.json").read_text())
    document["files"] = {name: file_digest(shard / name) for name in document["files"]}
    (shard / "result.json").write_text(json.dumps(document))
