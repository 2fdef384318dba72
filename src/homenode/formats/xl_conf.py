"""``xl.conf``, xl's own settings: a line ``key = value`` each, the last word of a key counts.

Source: Xen, tools/xl/xl.c, parse_global_config(), which reads it by the parser of guests' files. Of
that language it has strings and numbers; what is more is passed over.
"""


def parse(text: str) -> dict[str, str]:
    """Return what a file says by its keys, without quotes; what is commented out is not said."""
    told = {}
    for line in text.splitlines():
        key, equals, value = _without_comment(line).partition("=")
        if equals and key.strip():
            told[key.strip()] = value.strip().strip("\"'")
    return told


def _without_comment(line: str) -> str:
    quote = ""
    for at, letter in enumerate(line):
        if letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
        elif letter == "#" and not quote:
            return line[:at]
    return line
