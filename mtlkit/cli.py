"""The command line: thin commands over `actions` and `listing`; only typer is imported at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mtlkit.errors import MissingError, MtlkitError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

EXIT_CODES = (
    "Exit codes: 0 done · 1 a bug, please report · 2 recipe or usage · 3 plugin · "
    "4 data or device missing · 5 diverged · 130 interrupted after saving"
)


@cache
def _added() -> dict[str, EntryPoint]:
    """Return the commands that installed packages add, by name; nothing is imported."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="mtlkit.commands")}


class _Later(TyperCommand):
    """A command that a plugin adds: listed by name, imported when called."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Import the real command and let it take over.

        Raises:
            UsageError: there are several processes, which would all do the same.
        """
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError(
                f"mtlkit {self.name}: is for one process. Start it without torchrun, which is for "
                "`mtlkit run` and `mtlkit eval`"
            )
        command = typer.main.get_command(_added()[self.name or ""].load())
        return command.make_context(*args, **extra)


class _Commands(TyperGroup):
    """The core's commands, then those of the entry-point group `mtlkit.commands`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the help."""
        return [*super().list_commands(ctx), *sorted(_added())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; one that a plugin adds is only a stand-in until it is called."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _added():
            return own
        return _Later(cmd_name, help=f"Added by a plugin; see mtlkit {cmd_name} --help.")


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,  # rich help costs more than all the rest of --help
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Multi-task learning for dense vision: tasks and task transfers as plugins.",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(
    help="List the shipped recipes, or copy one.", invoke_without_command=True
)
app.add_typer(recipes_app, name="recipes")

RecipeArgument = Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override, as train.epochs=1")
]
PluginOption = Annotated[list[Path], typer.Option("--plugin", help="a plugin file to load too")]
BlockOption = Annotated[list[str], typer.Option("--no-plugin", help="a plugin to leave out")]
OutOption = Annotated[Path, typer.Option("--out", help="where run folders are made")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:1")]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import mtlkit

        print(mtlkit.__version__)
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeArgument,
    settings: SetOption = [],
    device: DeviceOption = None,
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
    out: OutOption = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="run folder to go on with")] = None,
) -> None:
    """Train a recipe, show its metrics and draw its predictions."""
    from mtlkit import actions

    actions.run(actions.Source(recipe, settings, device, plugin, no_plugin), out, resume)


@app.command(name="eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="a run folder (its best.pt) or a .pt file")],
    split: Annotated[str, typer.Option(help="train or val")] = "val",
    settings: SetOption = [],
    device: DeviceOption = None,
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
    baseline: Annotated[
        list[Path], typer.Option(help="run folder to give Δm against; several are joined")
    ] = [],
    consistency_maps: Annotated[
        Path | None, typer.Option(help="new folder to draw where transferred predictions disagree")
    ] = None,
) -> None:
    """Measure a checkpoint and the consistency of its tasks, and draw its predictions."""
    from mtlkit import actions

    source = actions.Source("", settings, device, plugin, no_plugin)
    actions.evaluate(checkpoint, split, source, baseline, consistency_maps)


@app.command()
def explain(
    recipe: RecipeArgument,
    settings: SetOption = [],
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Show the task graph, parameters, FLOPs and the objective as maths."""
    from mtlkit import actions

    actions.explain(actions.Source(recipe, settings, None, plugin, no_plugin))


@app.command()
def check(
    recipe: RecipeArgument,
    settings: SetOption = [],
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """Build everything without data and say what cannot work."""
    from mtlkit import actions

    actions.check(actions.Source(recipe, settings, None, plugin, no_plugin))


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    plugin: PluginOption = [],
    no_plugin: BlockOption = [],
) -> None:
    """List every loaded plugin, what it offers and where it came from."""
    from mtlkit import listing

    listing.list_plugins(as_json, plugin, no_plugin)


@app.command()
def schema(plugin: PluginOption = [], no_plugin: BlockOption = []) -> None:
    """Print the JSON schema of recipes, with every loaded plugin."""
    from mtlkit import listing

    listing.schema(plugin, no_plugin)


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the shipped recipes, or copy one."""
    if context.invoked_subcommand is None:
        from mtlkit import listing

        listing.list_recipes()


@recipes_app.command()
def copy(
    name: Annotated[str, typer.Argument(help="as `mtlkit recipes` lists it")],
    to: Annotated[Path, typer.Argument(help="file or folder to write")] = Path(),
) -> None:
    """Copy a shipped recipe, to change it."""
    from mtlkit import listing

    listing.copy_recipe(name, to)


def _closing(call: Callable[[], None]) -> int:
    """Return the exit code of a call, its error told in words."""
    try:
        call()
    except MtlkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped at once; the last checkpoint is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError" or "not enough memory" in str(error):
            print(f"{error}\nLower loader.batch_size or data.size", file=sys.stderr)
            return MissingError.exit_code
        import traceback

        traceback.print_exc()
        print("this is a bug in mtlkit; please report it with the lines above", file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Run the command line and leave with its exit code."""
    call = partial(app, prog_name="mtlkit")
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(_closing(call))
    from mtlkit import launch

    sys.exit(_closing(lambda: sys.exit(launch.together(call, _closing))))


if __name__ == "__main__":
    main()
