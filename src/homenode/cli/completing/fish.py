"""Completion for fish."""

from homenode.cli.completing import vocabulary
from homenode.cli.completing.grammar import URIS, Kind, Option, Value, Verb

_SCRIPT = r"""# Completion of homenode for fish: homenode completion fish

# Prints the verb, the position of the word at the cursor after it, and the host that is named.
function __homenode_seen
    set -l verb ''
    set -l position 0
    set -l uri ''
    set -l pending ''
    set -l tokens (commandline -opc)
    for token in $tokens[2..-1]
        if test -n "$pending"
            test "$pending" = uri; and set uri $token
            set pending ''
            continue
        end
        switch $token
            case -c --connect
                set pending uri
            case '--connect=*'
                set uri (string replace -- '--connect=' '' $token)
            case '-*'
                contains -- "$verb $token" $__homenode_valued; and set pending value
            case '*'
                if test -z "$verb"
                    set verb $token
                else
                    set position (math $position + 1)
                end
        end
    end
    printf '%s\n' $verb $position $uri
end

function __homenode_at -a verb position
    set -l seen (__homenode_seen)
    test "$seen[1]" = "$verb"; or return 1
    test -z "$position"; and return 0
    test "$position" = more; and set position $seen[2]
    test "$seen[2]" = "$position"
end

function __homenode_after -a verb position
    set -l seen (__homenode_seen)
    test "$seen[1]" = "$verb" -a "$seen[2]" -ge "$position"
end

function __homenode_guests
    set -l seen (__homenode_seen)
    set -l homenode (commandline -opc)[1]
    set -l host
    test -n "$seen[3]"; and set host -c $seen[3]
    $homenode completion $host guests 2>/dev/null
end

function __homenode_uris
    set -l token (commandline -ct | string replace -r '^--connect=' '')
    if string match -q 'capture:*' -- $token
        set -l begun (string replace -- 'capture:' '' $token)
        __fish_complete_path $begun | string replace -r '^' 'capture:'
    else
        printf '%s\n' @uris@
    end
end

function __homenode_order -a names facts
    set -l token (commandline -ct | string replace -r '^--[a-z-]+=' '')
    if string match -q '*,*' -- $token
        printf '%s\n' (string replace -r '[^,]*$' '' -- $token)(string split ' ' -- $facts)
    else
        string split ' ' -- $names
    end
end

set -g __homenode_valued @valued@
complete -c homenode -f
@lines@
complete -c homenode-numad -f
@numad@
complete -c homenode.pyz -w homenode
"""


def script(verbs: tuple[Verb, ...], numad: Verb, first: Verb) -> str:
    """Return the code; `first` is what may stand before a verb."""
    purposes = {verb.name: verb.purpose for verb in verbs}
    lines = [_option("homenode", first, option) for option in first.options]
    lines += [
        f"complete -c homenode -n '__homenode_at \"\"' -a {name} -d {_quoted(purpose)}"
        for name, purpose in purposes.items()
    ]
    for verb in verbs:
        lines += [_option("homenode", verb, option) for option in verb.options]
        lines += _positions(verb)
    filled = {
        "uris": " ".join(map(_quoted, URIS)),
        "valued": " ".join(
            _quoted(f"{verb.name} {name}")
            for verb in verbs
            for option in verb.options
            if option.value is not None
            for name in option.names
        ),
        "lines": "\n".join(lines),
        "numad": "\n".join(_option("homenode-numad", numad, option) for option in numad.options),
    }
    text = _SCRIPT
    for name, content in filled.items():
        text = text.replace(f"@{name}@", content)
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _option(command: str, verb: Verb, option: Option) -> str:
    condition = "" if command != "homenode" else f" -n '__homenode_at \"{verb.name}\"'"
    names = "".join(
        f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names
    )
    value = "" if option.value is None else f" -x{_values(option.value)}"
    if option.value is not None and option.value.kind in (Kind.FILE, Kind.FOLDER):
        value = (
            " -rF" if option.value.kind is Kind.FILE else " -x -a '(__fish_complete_directories)'"
        )
    return f"complete -c {command}{condition}{names}{value} -d {_quoted(option.purpose)}"


def _values(value: Value) -> str:
    order = "__homenode_order"
    sources = {
        Kind.WORDS: " ".join(value.words),
        Kind.URI: "(__homenode_uris)",
        Kind.GUEST: "(__homenode_guests)",
        Kind.GUEST_OR_FILE: "(__homenode_guests)",
        Kind.POLICY: f'({order} "{" ".join(vocabulary.node_policies())}"'
        f' "{" ".join(vocabulary.node_facts())}")',
        Kind.HOST_POLICY: f'({order} "{" ".join(vocabulary.host_policies())}"'
        f' "{" ".join(vocabulary.host_facts())}")',
        Kind.ANY_POLICY: f'({order} "{" ".join(vocabulary.any_policies())}"'
        f' "{" ".join(vocabulary.any_policies())}")',
    }
    return f" -a '{sources[value.kind]}'" if value.kind in sources else ""


def _positions(verb: Verb) -> list[str]:
    lines = []
    last = len(verb.positions) - 1
    for at, value in enumerate(verb.positions):
        seen = "after" if verb.repeats and at == last else "at"
        condition = f"-n '__homenode_{seen} \"{verb.name}\" {at}'"
        files = " -F" if value.kind in (Kind.FILE, Kind.GUEST_OR_FILE) else ""
        lines.append(f"complete -c homenode {condition}{files}{_values(value)}")
    return lines
