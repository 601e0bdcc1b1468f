"""Writing a pipeline in a format that says less than a Program: one file a network, all of them or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikegen.errors import ConfigError, ExchangeError
from spikegen.program import Pipeline, Program
from spikegen.runtime.files import check_output, write_output


@dataclass(frozen=True)
class LossyFormat:
    """One format.

    Attributes:
        name: for messages, with its article: "a NIR file".
        suffix: with which names of files end.
        lacking: the head of the list of refusals.
        refusals: every reason why a Program would mean something else there.
        losses: what its file leaves out, one sentence each.
    """

    name: str
    suffix: str
    lacking: str
    refusals: Callable[[Program], list[str]]
    losses: Callable[[Program], list[str]]

    def refuse(self, problems: Sequence[str]) -> None:
        """Raise ExchangeError if there are ``problems``."""
        if problems:
            raise ExchangeError(f"{self.lacking}:\n  - " + "\n  - ".join(problems))

    def write(
        self, pipeline: Pipeline, output: str | os.PathLike[str], content: Callable[[Program], bytes]
    ) -> tuple[list[Path], list[str]]:
        """Write every network of ``pipeline``; each file is whole or not there.

        Args:
            pipeline: a valid pipeline.
            output: NAME.SUFFIX; where the pipeline has several networks, NAME.ROLE.SUFFIX is written for each.
            content: of the file of a network that is not refused.

        Returns:
            the files, and what is lost in them, one sentence each.

        Raises:
            ExchangeError: what is refused, of all networks at once; nothing was written.
            ConfigError: ``output`` does not end in the suffix.
            OutputError: a file cannot be written.
        """
        output = Path(output)
        if output.suffix != self.suffix:
            raise ConfigError(f"{output}: the name of {self.name} ends in {self.suffix}")
        stem, several = output.with_suffix(""), len(pipeline.networks) > 1
        paths = {role: Path(f"{stem}.{role}{self.suffix}") if several else output for role in pipeline.networks}
        for path in paths.values():
            check_output(path)

        def told(of: Callable[[Program], list[str]]) -> list[str]:
            return [
                f"{role}: {line}" if several else line
                for role, program in pipeline.networks.items()
                for line in of(program)
            ]

        self.refuse(told(self.refusals))
        for role, path in paths.items():
            write_output(path, content(pipeline.networks[role]))
        return list(paths.values()), told(self.losses)
