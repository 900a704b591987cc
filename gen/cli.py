"""The command line: ``lutra COMMAND``."""

import sys
from importlib.metadata import version

import click

from ..fpga import LinkError
from ..sim import ToolError
from .backend import EngineError
from .command_advise import advise_command
from .command_board import board_command
from .command_compare import compare_command
from .command_evaluate import evaluate_command
from .command_export import export_command
from .command_formats import formats_command
from .command_generate import generate_command
from .command_inspect import inspect_command
from .command_quantize import quantize_command
from .command_simulate import simulate_command
from .command_synth import synth_command

__all__ = ["main"]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("lutra"))
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn quantised layers into LUT-GEMM hardware, bit for bit."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    formats_command,
    quantize_command,
    inspect_command,
    export_command,
    evaluate_command,
    advise_command,
    generate_command,
    simulate_command,
    compare_command,
    synth_command,
    board_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line: exit 0 when done, 1 if a comparison failed, 2 for bad input."""
    try:
        sys.exit(cli.main(prog_name="lutra", standalone_mode=False))
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _fail(_usage(error), 2)
    except EngineError as error:
        _fail(str(error), 1)
    except (ValueError, ToolError, LinkError) as error:
        _fail(str(error), 2)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}", 2)
    except MemoryError as error:
        _fail(f"There is not enough memory: {error}", 2)


def _usage(error: click.ClickException) -> str:
    """Put what is wrong with the arguments into one sentence."""
    sentence = " ".join(error.format_message().split()).removesuffix(".")
    context = getattr(error, "ctx", None)
    return f"{sentence}; see {context.command_path} --help" if context else sentence


def _fail(sentence: str, status: int) -> None:
    click.echo(f"lutra: {sentence}", err=True)
    sys.exit(status)
