"""``homenode completion``: the code that has a shell complete homenode's command lines."""

from argparse import ArgumentParser

from homenode.cli.common import add_connection, parser, print_json
from homenode.errors import ExitStatus, HomenodeError

_EXAMPLES = """\
  homenode completion bash >~/.local/share/bash-completion/completions/homenode
  homenode completion zsh >~/.zfunc/_homenode       with fpath+=~/.zfunc before compinit in .zshrc
  homenode completion fish >~/.config/fish/completions/homenode.fish
  eval "$(homenode completion bash)"                in this shell only

Completed are verbs, options, policies, connection URIs, files, and names of guests. For these the
shell runs homenode completion guests, which prints those of the host in question, one in a line:
nothing after two seconds, nothing for hosts behind ssh, and no errors. The document, of a shell:
{"version": 1, "shell", "code"}; of guests: {"version": 1, "guests": [name]}
"""

_GUESTS = "guests"
_PATIENCE_S = 2.0
SHELLS = ("bash", "zsh", "fish")
"""The shells that can complete."""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("completion", "Print the code by which a shell completes.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument(
        "what", choices=(*SHELLS, _GUESTS), metavar="SHELL", help="bash, zsh, fish, or guests"
    )
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    if chosen.what == _GUESTS:
        names = _guests(chosen.connect)
        if chosen.json:
            print_json({"version": 1, "guests": names})
        else:
            print("".join(f"{name}\n" for name in names), end="")
        return ExitStatus.DONE
    code = script(chosen.what)
    if chosen.json:
        print_json({"version": 1, "shell": chosen.what, "code": code})
    else:
        print(code, end="")
    return ExitStatus.DONE


def script(shell: str) -> str:
    """Return the code for a shell."""
    from importlib import import_module  # noqa: PLC0415 - not for names of guests

    from homenode.cli.completing import grammar  # noqa: PLC0415 - the same

    made: str = import_module(f"homenode.cli.completing.{shell}").script(
        grammar.verbs(), grammar.numad(), grammar.before_verbs()
    )
    return made


def _guests(uri: str | None) -> list[str]:
    """Return the names of the guests of a host that answers at once; none if it does not."""
    from homenode.cli.deadline import LateError, lift_deadline, set_deadline  # noqa: PLC0415 - here

    if uri and "ssh" in uri.partition(":")[0]:
        # It might ask for a password, in the middle of somebody's command line.
        return []
    try:
        set_deadline(_PATIENCE_S)
        from homenode.drivers.connect import driver_for  # noqa: PLC0415 - within what is watched

        names = [guest.name for guest in driver_for(uri).snapshot("guests").guests]
    except (HomenodeError, OSError, LateError):
        return []
    finally:
        lift_deadline()
    return [name for name in names if name.isprintable()]
