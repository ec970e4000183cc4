"""The `avem` command: parse, call, show. Errors that a user can fix end in one sentence and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from avem.commands.ask import ask
from avem.commands.bench.app import bench_app
from avem.commands.cache.app import cache_app
from avem.commands.completion import repair_zsh
from avem.commands.data.emorealm import emorealm_app
from avem.commands.data.instruct import instruct_app
from avem.commands.data.prefs import prefs_app
from avem.commands.data.survey import study_app
from avem.commands.demo import demo_app
from avem.commands.doctor import doctor
from avem.commands.extract import extract
from avem.commands.misspelt import argument_advice, option_advice
from avem.commands.models import models_app
from avem.commands.probe import probe_app
from avem.commands.proof import proof_app
from avem.commands.recipe import recipe_app
from avem.commands.report import report
from avem.commands.serve import serve
from avem.commands.sweep import sweep
from avem.commands.train import train
from avem.commands.utterances import utterances
from avem.errors import AvemError
from avem.guards.disk import os_error_sentence
from avem.text.terminal import log_to_terminal, show, show_block

app = typer.Typer(
    name="avem",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich would take brackets in a help text for markup, and cut long words at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(extract)
app.command()(utterances)
app.add_typer(cache_app, name="cache")
app.command()(train)
app.command()(sweep)
app.add_typer(bench_app, name="bench")
app.add_typer(probe_app, name="probe")
app.command()(ask)
app.command()(serve)
app.command()(report)
app.add_typer(proof_app, name="proof")
app.add_typer(models_app, name="models")
app.command()(doctor)
app.add_typer(demo_app, name="demo")
app.add_typer(prefs_app, name="prefs")
app.add_typer(emorealm_app, name="emorealm")
app.add_typer(instruct_app, name="instruct")
app.add_typer(study_app, name="study")
app.add_typer(recipe_app, name="recipe")

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from avem import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def avem(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    """Train and evaluate audiovisual emotion models from a feature store."""


def main() -> None:
    """Run the command line; every `AvemError` becomes one sentence on standard error."""
    log_to_terminal()
    repair_zsh()
    try:
        status = app(standalone_mode=False)
    except AvemError as error:
        show(f"avem: {error}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:
        if (sentence := os_error_sentence(error)) is None:
            raise  # a bug, so the traceback is wanted
        typer.echo(f"avem: {sentence}", err=True)
        sys.exit(AvemError.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except typer.TyperException as error:
        if said := error.format_message().rstrip("."):  # empty where the help was shown instead
            context = getattr(error, "ctx", None)
            if context and error.format_message() == context.get_help():  # a command that only has subcommands
                show_block(error.format_message(), err=True)
                sys.exit(AvemError.exit_status)
            option = getattr(error, "option_name", None)
            advice = option_advice(option, context.command, sys.argv[1:]) if option and context else ""
            said = argument_advice(said.replace("Value error, ", ""), context.command if context else None)
            show(f"avem: No such option: {option}; {advice}." if advice else f"avem: {said}; try --help.", err=True)
        sys.exit(AvemError.exit_status)
    if status == INTERRUPTED:  # Typer turns some interrupts into this status silently
        typer.echo("avem: stopped; run the same command again to resume.", err=True)
    sys.exit(status if isinstance(status, int) else 0)
