"""Running commands as a user does, and looking at what they left behind."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from spikegen.cli import main
from spikegen.errors import MissingPackageError
from tests.conftest import OPTIONAL


def run(*arguments: Any) -> Result:
    """What the command does.

    Raises:
        MissingPackageError: it needs a package that is missing here; conftest.py makes a skip of it.
    """
    result = CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "200"})
    error = result.exception
    while OPTIONAL and error is not None:
        if isinstance(error, MissingPackageError):
            raise error
        error = error.__context__
    return result


def succeed(*arguments: Any) -> Result:
    """As :func:`run`; the command must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def summary(*arguments: Any) -> Any:
    """What the command prints with ``--json``."""
    return json.loads(succeed(*arguments, "--json").stdout)


def refuse(code: int, message: str, *arguments: Any) -> None:
    """The command must say ``message`` in exactly one error, exit with ``code`` and leave all files as they were."""
    before = contents()
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split()), result.stderr
    assert result.stderr.count("Error") == 1, result.stderr
    assert "Traceback" not in result.output
    assert "Wrote" not in result.stdout
    assert contents() == before


def contents() -> dict[str, bytes]:
    """Every file in the working folder."""
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def names() -> list[str]:
    """Names in the working folder."""
    return sorted(path.name for path in Path().iterdir())
