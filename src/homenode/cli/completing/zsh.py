"""Completion for zsh, by its ``_arguments``."""

from homenode.cli.completing import vocabulary
from homenode.cli.completing.grammar import URIS, Kind, Option, Value, Verb

_SCRIPT = r"""#compdef homenode homenode.pyz homenode-numad
# Completion of homenode for zsh: homenode completion zsh

_homenode_uris() {
  if compset -P 'capture:' || compset -P 'sim:*[?]host='; then
    _files
    return
  fi
  local -a whole=(@whole_uris@) begun=(@begun_uris@)
  local ret=1
  compadd "$@" -a whole && ret=0
  compadd "$@" -S '' -a begun && ret=0
  return ret
}

# An order of facts has commas: what is before the last one stays.
_homenode_order() { # NAMES FACTS, then options of compadd
  local names=$1 facts=$2
  shift 2
  if compset -P '*,'; then
    compadd "$@" -S '' -- ${=facts}
  else
    compadd "$@" -- ${=names} || compadd "$@" -S '' -- ${=facts}
  fi
}

_homenode_policies() { _homenode_order '@node_policies@' '@node_facts@' "$@" }
_homenode_host_policies() { _homenode_order '@host_policies@' '@host_facts@' "$@" }
_homenode_any_policies() {
  _homenode_order '@any_policies@' '@any_policies@ @host_facts@ @node_facts@' "$@"
}

_homenode_guests() {
  local uri=${opt_args[-c]:-${opt_args[--connect]:-$homenode_uri}}
  # What is typed is quoted, and each colon in an option's value.
  uri=${(Q)uri//\\:/:}
  local asked="completion ${uri:+-c ${(q)uri}} guests"
  local -a names=(${(f)"$(_call_program guests $homenode_command $asked 2>/dev/null)"})
  (( $#names )) && compadd "$@" -a names
}

_homenode_guests_or_files() {
  local ret=1
  _homenode_guests "$@" && ret=0
  _files && ret=0
  return ret
}

_homenode_verbs() {
  local -a verbs=(
@verbs@
  )
  _describe -t verbs verb verbs
}

_homenode_numad() {
  _arguments -s \
@numad@
}

_homenode() {
  local curcontext=$curcontext state state_descr line ret=1
  local homenode_command=${words[1]} homenode_uri
  typeset -A opt_args
  if [[ $service == homenode-numad ]]; then
    _homenode_numad
    return
  fi
  _arguments -C -A '-*' \
@first@
    '1:verb:_homenode_verbs' \
    '*::argument:->rest' && ret=0
  [[ $state == rest ]] || return ret
  homenode_uri=${opt_args[-c]:-$opt_args[--connect]}
  curcontext=${curcontext%:*}-${words[1]}:
  case ${words[1]} in
@cases@
  esac
  return ret
}

if [[ $funcstack[1] == _homenode ]]; then
  _homenode "$@"
else
  compdef _homenode homenode homenode.pyz homenode-numad
fi
"""

_ACTIONS = {
    Kind.NOTHING: "",
    Kind.FILE: "_files",
    Kind.FOLDER: "_files -/",
    Kind.URI: "_homenode_uris",
    Kind.GUEST: "_homenode_guests",
    Kind.GUEST_OR_FILE: "_homenode_guests_or_files",
    Kind.POLICY: "_homenode_policies",
    Kind.HOST_POLICY: "_homenode_host_policies",
    Kind.ANY_POLICY: "_homenode_any_policies",
}


def script(verbs: tuple[Verb, ...], numad: Verb, first: Verb) -> str:
    """Return the code; `first` is what may stand before a verb."""
    whole = [uri for uri in URIS if not uri.endswith((":", "ssh://"))]
    filled = {
        "whole_uris": " ".join(whole),
        "begun_uris": " ".join(uri for uri in URIS if uri not in whole),
        "node_policies": " ".join(vocabulary.node_policies()),
        "host_policies": " ".join(vocabulary.host_policies()),
        "any_policies": " ".join(vocabulary.any_policies()),
        "node_facts": " ".join(vocabulary.node_facts()),
        "host_facts": " ".join(vocabulary.host_facts()),
        "verbs": "\n".join(
            f"    {_quoted(f'{verb.name}:{_escaped(verb.purpose)}')}" for verb in verbs
        ),
        "numad": _joined(_options(numad)),
        "first": " \\\n".join(f"    {line}" for line in _options(first)) + " \\",
        "cases": "\n".join(_case(verb) for verb in verbs),
    }
    text = _SCRIPT
    for name, content in filled.items():
        text = text.replace(f"@{name}@", content)
    return text


def _case(verb: Verb) -> str:
    lines = _joined([*_options(verb), *_positions(verb)])
    return f"    {verb.name})\n      _arguments -s \\\n{lines} && ret=0\n      ;;"


def _joined(lines: list[str]) -> str:
    return " \\\n".join(f"        {line}" for line in lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str) -> str:
    for special in "\\[]:":
        text = text.replace(special, f"\\{special}")
    return text


def _options(verb: Verb) -> list[str]:
    return [line for option in verb.options for line in _option(option)]


def _option(option: Option) -> list[str]:
    if "--help" in option.names or "--version" in option.names:
        without = "(- *)"
    elif option.repeats:
        without = "*"
    else:
        without = f"({' '.join([*option.names, *sorted(option.excludes)])})"
    purpose = f"[{_escaped(option.purpose)}]"
    if option.value is None:
        return [_quoted(f"{without}{name}{purpose}") for name in option.names]
    value = f"{purpose}:{_value(option.value)}"
    return [
        _quoted(f"{without}{name}{'=' if name.startswith('--') else '+'}{value}")
        for name in option.names
    ]


def _value(value: Value) -> str:
    action = f"({' '.join(value.words)})" if value.kind is Kind.WORDS else _ACTIONS[value.kind]
    return f"{_escaped(value.metavar)}:{action}"


def _positions(verb: Verb) -> list[str]:
    last = len(verb.positions)
    return [
        _quoted(f"{'*' if verb.repeats and at == last else at}:{_value(value)}")
        for at, value in enumerate(verb.positions, 1)
    ]
