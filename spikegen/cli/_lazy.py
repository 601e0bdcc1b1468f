"""A group whose commands are loaded when they are run, and which turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rich_click as click

from spikegen.errors import SpikegenError

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130  # click itself exits with 2 where the command line is wrong


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is, and what `spikegen --help` says of it without loading it.

    Attributes:
        module: module to import.
        attribute: name of the click command in it.
        summary: short help.
        example: shown at the end of the command's help.
    """

    module: str
    attribute: str
    summary: str
    example: str


class LazyGroup(click.RichGroup):
    """A group over a table of commands.

    Exit codes: 0, 1 for any :class:`~spikegen.errors.SpikegenError`, 2 for a wrong command line, 130 when interrupted.

    Args:
        table: name -> where the command is, in the order of `spikegen --help`.
        options: see ``click.Group``.
    """

    def __init__(self, *, table: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(**options)
        self.table = table
        for name, entry in table.items():  # what stands in the list of commands; never run
            self.add_command(click.RichCommand(name=name, help=entry.summary))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """The commands in the order of the table, which is that of the pipeline."""
        return list(self.table)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but with the command itself in place of its entry in the list."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.load(name), rest

    def load(self, name: str) -> click.Command:
        """Import command ``name``.

        Raises:
            SpikegenError: its module cannot be imported.
        """
        entry = self.table[name]
        try:
            command = getattr(importlib.import_module(entry.module), entry.attribute)
        except (ImportError, AttributeError) as error:
            raise SpikegenError(f"the command {name} cannot be loaded: {error}") from error
        if not isinstance(command, click.Command):
            raise SpikegenError(f"the command {name} cannot be loaded: {entry.module} does not define it")
        command.epilog = command.epilog or f"Example:\n\n{entry.example}"
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SpikegenError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
