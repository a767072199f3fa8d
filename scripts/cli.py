"""The `ballotboard` command: one sub-command per role, each loaded only when it is asked for.

The base install has the verifier and no server; a role whose extra is not installed says which one to add.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from protocol.errors import BallotboardError

EXIT_CANNOT = 2
"""Could not run: bad input, no node, missing file. Exit status 1 means that something does not verify."""

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module:attribute, extra that it needs, one line of help)
    "demo": ("scripts.demo:demo", "all", "Hold a real election on this machine and verify it."),
    "election": (
        "authority.cli:app",
        "",
        "The authority: make, publish, open, close, settle and announce an election.",
    ),
    "registrar": ("authority.registrar_cli:app", "", "The registrar: the electoral roll becomes credentials."),
    "keys": ("authority.keys_cli:app", "", "Make and show role keys."),
    "trustee": ("trustee.cli:app", "", "A trustee: the joint key, later the decryption of totals."),
    "station": ("station.cli:app", "station", "A polling station: check-ins, paper counts, signed results."),
    "vote": ("voter.cli:vote", "", "Fill a ballot, cast or audit it, keep the receipt."),
    "receipt": ("voter.receipt_cli:app", "", "A voter's receipt as a QR code, to print or to keep on a phone."),
    "relayer": ("relayer.cli:app", "relayer", "The relayer: takes ballots in and gets them onto the chain."),
    "board": ("bulletin.cli:app", "board", "The public bulletin board: index and serve."),
    "complain": ("authority.complaint_cli:complain", "", "Say on the record what is wrong, with the key of any role."),
    "rollup": ("scripts.national:app", "rollup", "Sums from units to the nation, checked at any level."),
    "chain": ("chain.cli:app", "", "The chain: start, stop, look."),
    "archive": ("verifier.archive_cli:app", "", "One election's whole record in one file: make, check, take apart."),
    "verify": ("verifier.cli:app", "", "Recompute everything and believe nobody."),
}


class LazyGroup(TyperGroup):
    """A group that imports a sub-command when it is used, so that `verify` starts without a server in sight."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        path, extra, help_line = COMMANDS[name]
        if len(sys.argv) > 1 and sys.argv[1] != name:  # only its line in the list of commands is wanted
            return TyperCommand(name, help=help_line, short_help=help_line)
        try:
            command = _load(path)
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] in {module.split(".")[0] for module, _, _ in COMMANDS.values()}:
                raise
            hint = f": pip install 'ballotboard[{extra or 'all'}]'"
            raise BallotboardError(f"'{name}' needs the package {error.name}, which is not installed{hint}") from error
        command.name = name
        return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ballotboard: a public record of an election that anyone can verify.\n\nStart with: ballotboard demo",
)


@app.callback()
def root() -> None:
    """Ballotboard: a public record of an election that anyone can verify. Start with: ballotboard demo"""


def main() -> None:
    """Run the command line. Errors that a person can act on are one line on standard error and exit status 2."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # people need no path of ours
    try:
        app()
    except BallotboardError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_CANNOT)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def _load(path: str) -> Any:
    module, attribute = path.split(":")
    target: Any = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        return get_command(target)
    single = typer.Typer()
    single.command()(target)
    return get_command(single)


if __name__ == "__main__":
    main()
