"""The job folder: written whole, opened only if nothing in it was changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from spikegen.errors import JobError
from spikegen.hardware.inrc import open_job
from spikegen.hardware.inrc.job import file_digest
from spikegen.program import digest, load, save
from tests.cli.commands import names, refuse, succeed
from tests.inrc.test_shards import deploy
from tests.runtime.programs import tiny

COMMANDS = (("submit", "job"), ("status", "job"), ("fetch", "job", "-o", "a.png"))


@pytest.fixture
def job(folder: Path) -> Path:
    return deploy("-n", 4, "--steps", 2, "--shards", 2, "--seed", 7)


def test_what_is_in_it(job: Path) -> None:
    assert sorted(path.name for path in job.iterdir()) == [
        *("environment.sh", "job.sh", "logs", "manifest.json", "pipeline.h5"),
        *("requirements.txt", "results", "run.py", "states"),
    ]
    manifest = json.loads((job / "manifest.json").read_text())
    files = {path.name: file_digest(path) for path in job.iterdir() if path.is_file()}
    assert manifest["files"] == {name: value for name, value in files.items() if name != "manifest.json"}
    assert manifest["pipeline_digest"] == digest(tiny()) == digest(load(job / "pipeline.h5"))
    assert (manifest["format"], manifest["version"], manifest["pipeline"]) == ("spikegen-job", 1, "tiny")
    wanted = {"images": 4, "steps": 2, "seed": 7, "shards": 2, "solver": None, "generator": None}
    assert wanted.items() <= manifest["sampling"].items()
    assert manifest["sampling"]["identity"]["solver"] == "DDIM"
    assert open_job(job).manifest.digest == manifest["digest"]
    assert 'if __name__ == "__main__":' in (job / "run.py").read_text()
    compile((job / "run.py").read_text(), "run.py", "exec")
    assert names() == ["job", "tiny.h5", "tokens.h5"]  # and nothing beside it


def test_it_does_not_need_the_pipeline_it_was_made_from(job: Path) -> None:
    Path("tiny.h5").unlink()
    job.rename("elsewhere")
    assert open_job(Path("elsewhere")).pipeline().name == "tiny"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["pipeline.h5", "run.py", "job.sh", "environment.sh", "requirements.txt"])
def test_a_file_that_was_changed(job: Path, name: str, command: tuple[str, ...]) -> None:
    with (job / name).open("ab") as file:
        file.write(b"\n")
    refuse(1, f"{job.absolute() / name}: it was altered after `spikegen deploy` wrote it; deploy again", *command)
    (job / name).unlink()
    refuse(1, f"{job.absolute() / name}: missing; deploy again", *command)


@pytest.mark.parametrize("command", COMMANDS)
def test_another_pipeline_with_its_digest_written_into_the_manifest(job: Path, command: tuple[str, ...]) -> None:
    save(tiny(size=6), job / "pipeline.h5")
    edit(job, lambda manifest: manifest["files"].update({"pipeline.h5": file_digest(job / "pipeline.h5")}))
    refuse(1, "manifest.json: it was altered: its digest does not hold; deploy again", *command)


def edit(job: Path, change: Any) -> None:
    path = job / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["sampling"].update(seed=8), "it was altered: its digest does not hold"),
        (lambda m: m["place"].update(python="/opt/python"), "it was altered: its digest does not hold"),
        (lambda m: m["place"].update(partition="a\n#SBATCH --mail-user=x"), "is no name"),
        (lambda m: m["sampling"].update(images=0), "2 shards of 0 images, allowed 1..1"),
        (lambda m: m["sampling"].update(images="4"), "images is '4', expected int"),
        (lambda m: m["sampling"].update(images=True), "images is True, expected int"),
        (lambda m: m["sampling"].pop("seed"), "not a readable manifest: 'seed'"),
        (lambda m: m["sampling"].update(extra=1), "not a readable manifest"),
        (lambda m: m.update(files={"run.py": 3}), "files holds something else than text"),
        (lambda m: m.update(files=[]), "not a readable manifest"),
        (lambda m: m.update(version=2), "its version is 2, this spikegen reads version 1"),
        (lambda m: m.update(format="x"), "its format is not 'spikegen-job'"),
        (lambda m: m.pop("digest"), "it was altered: its digest does not hold"),
    ],
)
def test_a_manifest_that_was_changed(job: Path, change: Any, message: str) -> None:
    edit(job, change)
    refuse(1, message, "status", "job")


def test_a_manifest_whose_digest_was_made_to_hold_but_which_names_other_files(job: Path) -> None:
    import dataclasses

    manifest = open_job(job).manifest
    other = dataclasses.replace(manifest, files={"../../x": "0"})
    (job / "manifest.json").write_bytes(other.encode())
    refuse(
        1,
        "it names the files ../../x, expected environment.sh, job.sh, pipeline.h5, requirements.txt, run.py",
        *COMMANDS[1],
    )
    other = dataclasses.replace(manifest, pipeline_digest="0" * 64)
    (job / "manifest.json").write_bytes(other.encode())
    with pytest.raises(JobError, match=r"this is another pipeline than manifest\.json names; deploy again"):
        open_job(job).pipeline()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_manifest_that_is_none(job: Path, data: bytes) -> None:
    (job / "manifest.json").write_bytes(data)
    refuse(1, "manifest.json: ", "status", "job")


def test_a_manifest_of_a_gigabyte_is_not_read(job: Path) -> None:
    with (job / "manifest.json").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(JobError, match="a manifest has at most 16777216"):
        open_job(job)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_job_folder(folder: Path, command: tuple[str, ...]) -> None:
    message = "there is no job folder here (manifest.json is missing); `spikegen deploy` writes one"
    refuse(1, message, *command)
    Path("job").mkdir()
    refuse(1, message, *command)


def test_a_folder_that_is_not_empty_is_left_alone(job: Path) -> None:
    before = {path: path.read_bytes() for path in job.rglob("*") if path.is_file()}
    place = ("--partition", "p", "--backend", "simulator")
    refuse(
        1, f"{job.absolute()}: it exists; a job is written to a new folder", "deploy", "tiny.h5", *place, "-o", "job"
    )
    assert {path: path.read_bytes() for path in job.rglob("*") if path.is_file()} == before
    Path("empty").mkdir()
    succeed("deploy", "tiny.h5", *place, "-o", "empty")
    refuse(1, "cannot be written: No such file or directory", "deploy", "tiny.h5", *place, "-o", "no/folder")


def test_fetch_checks_where_it_writes_before_it_works(job: Path) -> None:
    refuse(1, "the folder no does not exist", "fetch", "job", "-o", "no/a.png")
    refuse(2, "must be different files", "fetch", "job", "-o", "a.png", "--npy", "a.png")
    refuse(2, "--tokens is an option of pipelines of tokens; tiny samples images", *COMMANDS[2], "--tokens", "t.npy")
