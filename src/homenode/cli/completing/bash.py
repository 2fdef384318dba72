"""Completion for bash.

Readline splits words at ``:`` and ``=``, which URIs and ``--option=value`` are full of: what is
typed is put together again first, and what was typed before the last of them taken off what is
offered.
Files are left to readline, which knows about quotes and tildes.
"""

from collections.abc import Iterable
from shlex import quote

from homenode.cli.completing import vocabulary
from homenode.cli.completing.grammar import URIS, Kind, Option, Value, Verb

_ALWAYS = frozenset({"-h", "--help"})

_SCRIPT = r"""# Completion of homenode for bash 4.3 or newer: homenode completion bash

# Sets what OPTION of VERB wants: $kind, $wanted (the words that it may be), and in $spent the
# options that are of no use beside it. VERB is empty before the verb.
_homenode_option() { # VERB OPTION
  kind='' wanted='' spent=''
  case "$1 $2" in
@options@
  esac
}

# Sets what stands at a position after VERB, in the same way.
_homenode_position() { # VERB POSITION
  kind='' wanted=''
  case "$1 $2" in
@positions@
  esac
}

_homenode_names() { # VERB
  case $1 in
@names@
  esac
}

# Sets $line to the words before the cursor, as the shell will see them.
_homenode_rejoin() {
  local rest=${COMP_LINE:0:COMP_POINT} part at
  line=()
  for ((at = 0; at <= COMP_CWORD; at++)); do
    local is_new=$((at == 0))
    [[ $rest == [[:space:]]* ]] && is_new=1
    rest=${rest#"${rest%%[![:space:]]*}"}
    part=${COMP_WORDS[at]}
    ((at == COMP_CWORD)) && part=$rest
    rest=${rest#"$part"}
    if ((is_new)); then line+=("$part"); else line[-1]+=$part; fi
  done
}

_homenode_guests() { # URI TYPED
  local name homenode=${line[0]/#\~\//$HOME/}
  while IFS= read -r name; do
    [[ $name == "$2"* ]] || continue
    printf -v name %q "$name"
    COMPREPLY+=("$name")
  done < <("$homenode" completion ${1:+-c "$1"} guests 2>/dev/null)
}

_homenode_words() { # WORDS TYPED
  local word
  for word in $1; do
    [[ $word == "$2"* ]] && COMPREPLY+=("$word")
  done
}

# An order of facts has commas: what is before the last one stays.
_homenode_order() { # NAMES FACTS TYPED
  local before='' at
  [[ $3 == *,* ]] && before=${3%,*},
  if [[ $before ]]; then _homenode_words "$2" "${3##*,}"; else _homenode_words "$1" "$3"; fi
  [[ -z $before && $3 && ${#COMPREPLY[@]} == 0 ]] && _homenode_words "$2" "$3"
  for at in "${!COMPREPLY[@]}"; do COMPREPLY[at]=$before${COMPREPLY[at]}; done
}

_homenode_offer() { # KIND WORDS TYPED URI
  case $1 in
    words) _homenode_words "$2" "$3" ;;
    uri)
      case $3 in
        capture:* | sim:*\?host=*) compopt -o default 2>/dev/null ;;
        *) _homenode_words '@uris@' "$3" ;;
      esac
      [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} =~ (:|ssh://)$ ]] &&
        compopt -o nospace 2>/dev/null
      ;;
    policy) _homenode_order '@node_policies@' '@node_facts@' "$3" ;;
    host_policy) _homenode_order '@host_policies@' '@host_facts@' "$3" ;;
    any_policy) _homenode_order '@any_policies@' '@any_policies@ @host_facts@ @node_facts@' "$3" ;;
    guest) _homenode_guests "$4" "$3" ;;
    guest_or_file)
      _homenode_guests "$4" "$3"
      ((${#COMPREPLY[@]})) || compopt -o default 2>/dev/null
      ;;
    file) compopt -o default 2>/dev/null ;;
    folder) compopt -o dirnames 2>/dev/null ;;
  esac
  return 0
}

_homenode() {
  local line kind='' wanted='' spent='' verb='' uri='' pending='' pending_words='' gone=' '
  local at word position=0 no_options='' before='' typed
  COMPREPLY=()
  _homenode_rejoin
  for ((at = 1; at < ${#line[@]} - 1; at++)); do
    word=${line[at]}
    if [[ $pending ]]; then
      [[ $pending == uri ]] && uri=$word
      pending=''
    elif [[ $word == -- ]]; then
      no_options=yes
    elif [[ $word == -?* && -z $no_options ]]; then
      _homenode_option "$verb" "${word%%=*}"
      gone+="$spent "
      if [[ $word == *=* ]]; then
        [[ $kind == uri ]] && uri=${word#*=}
      elif [[ $kind && $kind != flag ]]; then
        pending=$kind pending_words=$wanted
      fi
    elif [[ -z $verb ]]; then
      verb=$word
    else
      ((position++))
    fi
  done
  typed=${line[-1]}
  if [[ $pending ]]; then
    kind=$pending wanted=$pending_words
  elif [[ $typed == --*=* && -z $no_options ]]; then
    before=${typed%%=*}=
    _homenode_option "$verb" "${typed%%=*}"
    typed=${typed#*=}
  elif [[ $typed == -* && -z $no_options ]]; then
    kind=words
    for word in $(_homenode_names "$verb"); do
      [[ $gone == *" $word "* ]] || wanted+=" $word"
    done
  else
    _homenode_position "$verb" "$position"
  fi
  _homenode_offer "$kind" "$wanted" "$typed" "$uri"
  # Readline replaces what comes after the last : or = alone.
  local cut='' sign whole=$before$typed
  for sign in : =; do
    [[ $COMP_WORDBREAKS == *"$sign"* && $whole == *"$sign"* ]] || continue
    word=${whole%"$sign"*}$sign
    ((${#word} > ${#cut})) && cut=$word
  done
  for at in "${!COMPREPLY[@]}"; do
    word=$before${COMPREPLY[at]}
    COMPREPLY[at]=${word#"$cut"}
  done
}

complete -F _homenode homenode homenode.pyz
complete -W '@numad@' homenode-numad
"""


def script(verbs: tuple[Verb, ...], numad: Verb, first: Verb) -> str:
    """Return the code; `first` is what may stand before a verb."""
    everything = (first, *verbs)
    filled = {
        "options": _lines(line for verb in everything for line in _option_lines(verb)),
        "positions": _lines(line for verb in everything for line in _position_lines(verb)),
        "names": _lines(
            f"{quote(verb.name)}) echo '{' '.join(_names(verb))}' ;;" for verb in everything
        ),
        "uris": " ".join(URIS),
        "node_policies": " ".join(vocabulary.node_policies()),
        "host_policies": " ".join(vocabulary.host_policies()),
        "any_policies": " ".join(vocabulary.any_policies()),
        "node_facts": " ".join(vocabulary.node_facts()),
        "host_facts": " ".join(vocabulary.host_facts()),
        "numad": " ".join(_names(numad)),
    }
    text = _SCRIPT
    for name, content in filled.items():
        text = text.replace(f"@{name}@", content)
    return text


def _names(verb: Verb) -> list[str]:
    return [name for option in verb.options for name in option.names]


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _option_lines(verb: Verb) -> list[str]:
    return [
        f"{_patterns(verb, option)}) kind={_kind(option)}{_spent(option)} ;;"
        for option in verb.options
    ]


def _patterns(verb: Verb, option: Option) -> str:
    return " | ".join(f"'{verb.name} {name}'" for name in option.names)


def _kind(option: Option) -> str:
    return "flag" if option.value is None else _value(option.value)


def _value(value: Value) -> str:
    words = f" wanted='{' '.join(value.words)}'" if value.kind is Kind.WORDS else ""
    return f"{value.kind}{words}"


def _spent(option: Option) -> str:
    names = [] if option.repeats else [*option.names, *sorted(option.excludes)]
    names = [name for name in names if name not in _ALWAYS]
    return f" spent='{' '.join(names)}'" if names else ""


def _position_lines(verb: Verb) -> list[str]:
    lines = [
        f"'{verb.name} {at}') kind={_value(value)} ;;" for at, value in enumerate(verb.positions)
    ]
    if verb.repeats:
        # The pattern is after those of the first positions.
        lines.append(f"'{verb.name} '*) kind={_value(verb.positions[-1])} ;;")
    return lines
