"""Submitting and asking, with stand-ins for Slurm's commands; the real ones are in tests/slurm."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from spikegen.hardware.inrc.slurm import Task, parse_sacct, parse_squeue, ranges
from tests.cli.commands import refuse, run, succeed, summary
from tests.inrc.stand_ins import Queue, only
from tests.inrc.test_shards import deploy, finish


@pytest.fixture
def job(folder: Path, queue: Queue) -> Path:
    return deploy("-n", 8, "--steps", 2, "--shards", 4)


def shards(job: str = "job") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("status", job, "--json").stdout)["shards"]
    return found


def stages() -> list[str]:
    return [shard["stage"] for shard in shards()]


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "0"), ([3, 1, 2], "1-3"), ([0, 2, 3, 9], "0,2-3,9"), ([0, 1, 2, 3], "0-3")]
)
def test_numbers_of_an_array(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_what_squeue_says() -> None:
    answer = b"12|0|RUNNING|None\n12|1|PENDING|Resources\n9|N/A|RUNNING|None\n12|2|TIMEOUT|TimeLimit\ngarbage\n"
    assert parse_squeue(answer) == {
        ("12", 0): Task("12", 0, "RUNNING", ""),
        ("12", 1): Task("12", 1, "PENDING", "Resources"),
        ("12", 2): Task("12", 2, "TIMEOUT", "TimeLimit"),
    }
    assert [task.active for task in parse_squeue(answer).values()] == [True, True, False]


def test_what_sacct_says() -> None:
    answer = b"5_0|COMPLETED|0:0\n5_1|CANCELLED by 1000|0:15\n5_2|FAILED|3:0\n5_[3-7]|PENDING|0:0\n6|FAILED|1:0\n"
    assert parse_sacct(answer) == {
        ("5", 0): Task("5", 0, "COMPLETED", ""),
        ("5", 1): Task("5", 1, "CANCELLED", "signal 15"),
        ("5", 2): Task("5", 2, "FAILED", "exit code 3"),
    }


def test_a_state_that_slurm_invents_later_is_not_taken_for_an_end() -> None:
    assert Task("1", 0, "SOMETHING_NEW", "").active


def test_the_first_submission(job: Path, queue: Queue) -> None:
    name = f"spikegen-{json.loads((job / 'manifest.json').read_text())['digest'][:12]}"
    assert summary("submit", "job") == {
        "job": "1",
        "shards": [0, 1, 2, 3],
        "stages": {"0": "not submitted", "1": "not submitted", "2": "not submitted", "3": "not submitted"},
    }
    path = job.absolute()
    assert queue.submitted == [f"--parsable --chdir={path} --job-name={name} --array=0-3 {path}/job.sh"]
    assert succeed("submit", "job").stdout == "Submitted job 2: shards 0, 1, 2, 3\nNext: spikegen status job --wait\n"


def test_how_far_the_shards_are(job: Path, queue: Queue) -> None:
    assert stages() == ["not submitted"] * 4
    assert queue.asked == []
    succeed("submit", "job")
    queue.answer(
        "1|0|RUNNING|None", "1|1|PENDING|Resources", "1|2|COMPLETING|None", "1|3|PENDING|Priority", "7|0|FAILED|x"
    )
    (job / "logs/1_0.log").write_text("shard 0: step 1 of 2\n")
    finish(job, 3)  # and squeue is late
    assert stages() == ["running", "waiting", "running", "finished"]
    assert [shard["detail"] for shard in shards()] == ["shard 0: step 1 of 2", "Resources", "", ""]
    shown = succeed("status", "job").stdout
    assert "2 running, 1 waiting, 1 finished" in shown
    assert succeed("submit", "job").stdout == "Nothing to submit: every shard is finished, running or waiting\n"
    assert len(queue.submitted) == 1


def test_only_lost_shards_are_queued_again(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    finish(job, 0)
    queue.answer("1|0|COMPLETED|None", "1|1|NODE_FAIL|None", "1|2|RUNNING|None", "1|3|TIMEOUT|TimeLimit")
    refuse(
        1,
        "Error: job: 2 of 4 shards are lost or damaged; shard 1: NODE_FAIL; `spikegen submit job` queues them again",
        "status",
        "job",
    )
    assert summary("submit", "job")["shards"] == [1, 3]
    assert "--array=1,3 " in queue.submitted[1]
    queue.answer("1|1|NODE_FAIL|None", "1|2|RUNNING|None", "1|3|TIMEOUT|TimeLimit", "2|1|RUNNING|None", "2|3|PENDING|x")
    assert stages() == ["finished", "running", "running", "waiting"]
    assert [shard["job"] for shard in shards()] == [None, "2", "1", "2"]
    queue.answer(
        "1|1|RUNNING|None", "1|2|RUNNING|None", "2|1|CANCELLED|None", "2|3|PENDING|x"
    )  # Slurm requeued it itself
    assert [shard["job"] for shard in shards()] == [None, "1", "1", "2"]
    finish(job)
    assert stages() == ["finished"] * 4
    assert summary("submit", "job")["shards"] == []


def test_a_task_that_completed_without_a_result_is_lost(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    queue.answer(*(f"1|{shard}|COMPLETED|None" for shard in range(4)))
    assert stages() == ["lost"] * 4


def test_a_task_that_ends_while_the_queue_is_asked_is_not_lost(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    finish(job)
    (job / "results/shard-0003").rename("aside")
    script = queue.folder.parent / "squeue"
    script.write_text(f"#!/bin/sh\nmv {Path('aside').absolute()} {job.absolute()}/results/shard-0003\n")
    assert stages() == ["finished"] * 4


def test_tasks_that_squeue_has_forgotten(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    queue.answer(sacct=("1_0|OUT_OF_MEMORY|0:125", "1_1|RUNNING|0:0", "1_2|PENDING|0:0", "1_3|CANCELLED by 7|0:0"))
    assert [(shard["stage"], shard["state"], shard["detail"]) for shard in shards()] == [
        ("lost", "OUT_OF_MEMORY", "signal 125"),
        ("running", "RUNNING", ""),
        ("waiting", "PENDING", ""),
        ("lost", "CANCELLED", ""),
    ]
    assert queue.asked[-1] == "sacct --noheader --parsable2 --allocations --jobs=1 --format=JobID,State,ExitCode"


def test_a_site_without_accounts(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    finish(job, 2)
    assert stages() == ["lost", "lost", "finished", "lost"]
    assert shards()[0]["detail"] == "it has left the queue"
    (job / "logs/1_0.log").write_text("shard 0: step 1 of 2\nError: no board\n")
    refuse(1, "shard 0: it has left the queue; no board; `spikegen submit job` queues them again", "status", "job")


def test_what_a_log_tells(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    (job / "logs/1_0.log").write_text("shard 0: step 1 of 2\nError: old\nError: missing:\n  - a board\n  - Lava\n")
    (job / "logs/1_1.log").write_text("")
    (job / "logs/1_2.log").write_text("shard 2: step 1 of 2\n" * 30 + "slurmstepd: error: DUE TO TIME LIMIT\n")
    (job / "logs/note.log").write_text("Error: of nobody\n")
    assert [shard["detail"].removeprefix("it has left the queue") for shard in shards()] == [
        *("; missing: - a board - Lava", "", "; slurmstepd: error: DUE TO TIME LIMIT", ""),
    ]


def test_a_result_that_is_damaged_is_queued_again(job: Path, queue: Queue) -> None:
    finish(job)
    (job / "results/shard-0002/images.npy").write_bytes(b"")
    refuse(1, "1 of 4 shards are lost or damaged; shard 2: ", "status", "job")
    assert summary("submit", "job")["shards"] == [2]
    queue.answer("1|2|RUNNING|None")
    assert stages() == ["finished", "finished", "running", "finished"]


def test_waiting_for_the_end(job: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    succeed("submit", "job")
    queue.answer(*(f"1|{shard}|RUNNING|None" for shard in range(4)))
    waited = []

    class Time:
        @staticmethod
        def sleep(seconds: float) -> None:
            waited.append(seconds)
            finish(job, *([0, 1] if len(waited) == 1 else []))

    monkeypatch.setattr("spikegen.cli.status.time", Time)
    result = succeed("status", "job", "--wait", "--interval", 3)
    assert waited == [3, 3]
    assert "8/8 images" in result.stderr
    assert "4 finished" in result.stdout


# --- the queue refuses


def test_sbatch_refuses(job: Path, queue: Queue) -> None:
    queue.refuse("sbatch: error: Batch job submission failed: Invalid account\n")
    refuse(1, "Error: sbatch failed on this machine: Batch job submission failed: Invalid account", "submit", "job")
    assert not (job / "submissions.json").exists()


def test_sbatch_answers_something_else(job: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    (queue.folder.parent / "sbatch").write_text("#!/bin/sh\necho 12;\necho welcome\n")
    refuse(1, "sbatch on this machine answered '12\\nwelcome', expected the number of a job", "submit", "job")


def test_a_cluster_behind_the_number(job: Path, queue: Queue) -> None:
    (queue.folder.parent / "sbatch").write_text("#!/bin/sh\necho '12;loihi'\n")
    assert summary("submit", "job")["job"] == "12"


def test_slurm_is_not_installed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy()
    only(tmp_path / "nothing", monkeypatch)
    message = "Slurm is not installed on this machine (no command sbatch); name a machine that has it: --ssh user@host"
    refuse(1, message, "submit", "job")
    assert stages() == ["not submitted"]


def test_the_queue_does_not_answer(job: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    succeed("submit", "job")
    (queue.folder / "squeue").unlink()
    refuse(1, "Error: squeue failed on this machine: cannot connect", "status", "job")
    refuse(1, "Error: squeue failed on this machine: cannot connect", "submit", "job")
    (queue.folder.parent / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("spikegen.hardware.inrc.remote.LocalHost.run.__defaults__", (b"", 0.2))
    refuse(1, "squeue gave no answer in 0.2 seconds: squeue --noheader", "status", "job")
    finish(job)  # what is finished needs no queue
    assert stages() == ["finished"] * 4


@pytest.mark.parametrize("data", ["", "{}", "[]", '{"format": "spikegen-submissions", "version": 1, "job": "x"}'])
def test_a_record_that_is_damaged(job: Path, queue: Queue, data: str) -> None:
    (job / "submissions.json").write_text(data)
    for command in ("submit", "status"):
        refuse(1, "submissions.json: damaged: ", command, "job")


@pytest.mark.parametrize(
    ("field", "value"),
    [("ssh", "-oProxyCommand=x"), ("ssh", 3), ("submissions", [{"job": "1;x", "shards": [0]}]), ("submissions", 3)],
)
def test_a_record_that_was_changed(job: Path, queue: Queue, field: str, value: Any) -> None:
    succeed("submit", "job")
    path = job / "submissions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    refuse(1, "delete it if none of the job is queued, and `spikegen submit` again", "status", "job")


def test_a_folder_that_cannot_be_written_is_not_submitted(
    job: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job / "submissions.json").mkdir()
    run("submit", "job")
    assert queue.submitted == []


def test_a_folder_that_was_moved(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    finish(job, 0)
    shutil.move("job", "moved")
    assert summary("submit", "moved")["shards"] == [1, 2, 3]
    assert queue.submitted[1].endswith(f"{Path('moved').absolute()}/job.sh")
    finish(Path("moved"))
    succeed("fetch", "moved", "-o", "a.png")
