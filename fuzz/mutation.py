"""New inputs of old ones that keep enough of their grammar to get past the outer parser.

Bytes that are changed at random are no XML, no JSON and no TOML in most cases, and so show nothing
of what reads the elements and the values. Each function here takes an input apart as far as its
grammar goes and changes a part: drops it, doubles it, exchanges it for a part of another input or
for a word. All chance is that of the `Random` which is given.
"""

import json
import re
from collections.abc import Callable, Sequence
from random import Random

ODD_WORDS = (
    "", "0", "1", "-1", "00", "1.5", "65535", "65536", "4294967296", "9" * 30, "1e999", "nan",
    "0x10", "²", "٣", "all", "none", "true", "^1", "0-3", "3-0", "0-", ",", "é", "\u2028",
    "\x1b[1m", "N0=", "0" * 5000, "[" * 1500,
)  # fmt: skip

_BLOCK = 512

_TOKEN = re.compile(r"[A-Za-z_]+|[0-9]+|[ \t]+|\s|.", re.DOTALL)
_ELEMENT = re.compile(r"<([A-Za-z][\w.-]*)[^<>]*?(?:/>|>)")
_ATTRIBUTE = re.compile(r""" [\w:.-]+=("[^"]*"|'[^']*')""")
_TEXT = re.compile(r">([^<>]+)<")
_SETTING = re.compile(r"(?m)^([ \t]*[\w.\"-]+[ \t]*\+?=[ \t]*)(.*)$")

Others = Sequence[bytes]
Mutator = Callable[[bytes, Others, Sequence[str], Random], bytes]


def mutate(shape: str, data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    """Return another input; `others` are inputs of the same target to take parts from."""
    change = _SHAPES[shape]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = change(data, others, words, chance)
    return data


def _word(words: Sequence[str], chance: Random) -> str:
    return chance.choice(words if words and chance.random() < 0.6 else ODD_WORDS)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bytes(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    length = chance.choice((0, 1, 2, 4, 8, 64))
    how = chance.randrange(4)
    if how == 0:
        put = _data(_word(words, chance))
    elif how == 1:
        put = chance.randbytes(chance.choice((1, 2, 4, 8)))
    elif how == 2 and others:
        other = chance.choice(others)
        begin = chance.randrange(len(other) + 1)
        put = other[begin : begin + chance.choice((1, 4, 16, 64, 512))]
    else:
        put = bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at : at + length])
    return data[:at] + put + data[at + length :]


def _tokens(text: str, words: Sequence[str], chance: Random) -> str:
    tokens = _TOKEN.findall(text)
    if not tokens:
        return _word(words, chance)
    at = chance.randrange(len(tokens))
    how = chance.randrange(6)
    if how == 0:
        tokens[at] = _word(words, chance)
    elif how == 1:
        del tokens[at]
    elif how == 2:
        tokens.insert(at, _word(words, chance))
    elif how == 3:
        tokens[at] = chance.choice(tokens)
    elif how == 4:
        tokens[at : at + 1] = tokens[at : at + 1] * chance.choice((2, 3, 40))
    else:
        end = min(len(tokens), at + chance.randrange(1, 8))
        tokens[at:end] = []
    return "".join(tokens)


def _plain(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    if chance.random() < 0.2:
        return _bytes(data, others, words, chance)
    return _data(_tokens(_text(data), words, chance))


def _lines(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    lines = _text(data).split("\n")
    at = chance.randrange(len(lines))
    how = chance.randrange(8)
    if how < 4:
        lines[at] = _tokens(lines[at], words, chance)
    elif how == 4:
        del lines[at : at + chance.choice((1, 1, 3))]
    elif how == 5:
        lines[at:at] = lines[at : at + chance.choice((1, 1, 5))]
    elif how == 6:
        other = chance.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif others:
        lines.insert(at, chance.choice(_text(chance.choice(others)).split("\n")))
    return _data("\n".join(lines))


def _settings(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    """Change the value of a setting (``key = value``) in TOML or in xl's config."""
    text = _text(data)
    found = list(_SETTING.finditer(text))
    if not found or chance.random() < 0.3:
        return _lines(data, others, words, chance)
    one = chance.choice(found)
    how = chance.randrange(6)
    if how == 0:
        value = _tokens(one[2], words, chance)
    elif how == 1:
        value = chance.choice(found)[2]
    elif how == 2:
        value = json.dumps(_word(words, chance))
    elif how == 3:
        value = _word(words, chance)
    elif how == 4:
        value = f"[{one[2]}, {chance.choice(found)[2]}]"
    else:
        name = _word(words, chance)
        return _data(f"{text[: one.start()]}{name} = {one[2]}\n{text[one.start() :]}")
    return _data(text[: one.start(2)] + value + text[one.end(2) :])


def _xml(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    text = _text(data)
    how = chance.randrange(10)
    if how < 4:
        return _data(_within(_ATTRIBUTE, text, words, chance))
    if how == 4:
        return _data(_within(_TEXT, text, words, chance))
    if how == 5:
        found = list(_ATTRIBUTE.finditer(text))
        start, end = chance.choice(found).span() if found else (0, 0)
        return _data(text[:start] + text[end:])
    if how == 6:
        return _lines(data, others, words, chance)
    return _data(_with_elements(text, others, chance))


def _with_elements(text: str, others: Others, chance: Random) -> str:
    """Return an XML text with an element less, or with some more behind it."""
    start, end = _element(text, chance)
    part = text[start:end]
    how = chance.randrange(3)
    if how == 0:
        return text[:start] + text[end:]
    if how == 1 and others:
        other = _text(chance.choice(others))
        begin, until = _element(other, chance)
        part = other[begin:until]
    return text[:end] + part * chance.choice((1, 1, 1, 2, 20)) + text[end:]


def _within(pattern: re.Pattern[str], text: str, words: Sequence[str], chance: Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    one = chance.choice(found)
    how = chance.randrange(3)
    old = one[1].strip("\"'")
    if how == 0:
        new = _tokens(old, words, chance)
    elif how == 1:
        new = chance.choice(found)[1].strip("\"'")
    else:
        new = _word(words, chance)
    new = new.translate({ord(letter): None for letter in "<>&\"'"})
    quote = one[1][0] if one[1][:1] in "\"'" else ""
    return f"{text[: one.start(1)]}{quote}{new}{quote}{text[one.end(1) :]}"


def _element(text: str, chance: Random) -> tuple[int, int]:
    """Return the span of an element of an XML text, as far as can be told without a parser."""
    found = list(_ELEMENT.finditer(text))
    if not found:
        return 0, 0
    one = chance.choice(found)
    end = one.end() if one[0].endswith("/>") else text.find(f"</{one[1]}>", one.end())
    return one.start(), max(end, one.end())


def _json(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    try:
        document = json.loads(data)
        parts = list(_parts(document, []))
    except (ValueError, RecursionError):
        return _plain(data, others, words, chance)
    if not parts or chance.random() < 0.1:
        return _plain(data, others, words, chance)
    holder, key = chance.choice(parts)
    value = holder[key]
    how = chance.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1:
        holder[key] = None
    elif how == 2:
        other_holder, other_key = chance.choice(parts)
        holder[key] = json.loads(json.dumps(other_holder[other_key]))
    elif how == 3 and isinstance(holder, list):
        holder[key:key] = [value] * chance.choice((1, 1, 2, 30))
    elif how == 4 and isinstance(value, str):
        holder[key] = _tokens(value, words, chance).encode(errors="replace").decode()
    elif how == 5:
        holder[key] = _word(words, chance)
    elif how == 6 and isinstance(holder, dict):
        holder[_word(words, chance)] = holder.pop(key)
    else:
        holder[key] = chance.choice((0, -1, 1, 2**53, 2**64, 10**30, 1.5, True, [], {}, [[]], "x"))
    return json.dumps(document, ensure_ascii=chance.random() < 0.5).encode(errors="replace")


def _parts(value: object, found: list) -> list:
    """Return all places (dict or list, and key) of a JSON document."""
    left = [value]
    while left:
        holder = left.pop()
        if isinstance(holder, dict):
            keys = list(holder)
        elif isinstance(holder, list):
            keys = list(range(len(holder)))
        else:
            continue
        found += [(holder, key) for key in keys]
        left += [holder[key] for key in keys]
    return found


def _tar(data: bytes, others: Others, words: Sequence[str], chance: Random) -> bytes:
    """Change a member of a tar archive: its header, with a sum that is right again, or its content.

    By hand, since tarfile would take most of the time of a run.
    """
    heads = [
        at
        for at in range(0, len(data) - _BLOCK + 1, _BLOCK)
        if data[at + 257 : at + 262] == b"ustar"
    ]
    if not heads or chance.random() < 0.2:
        return _bytes(data, others, words, chance)
    begin = chance.choice(heads)
    end = next((at for at in heads if at > begin), len(data))
    how = chance.randrange(6)
    if how == 0:
        return data[:begin] + data[end:]
    if how == 1:
        return data[:end] + data[begin:end] + data[end:]
    if how == 2:
        content = _lines(data[begin + _BLOCK : end].rstrip(b"\0"), (), words, chance)
        head = _with_field(data[begin : begin + _BLOCK], 124, b"%011o\0" % len(content))
        return data[:begin] + head + content + bytes(-len(content) % _BLOCK) + data[end:]
    head = data[begin : begin + _BLOCK]
    if how == 3:
        head = _with_field(
            head, 156, chance.choice((b"0", b"1", b"2", b"3", b"5", b"6", b"x", b"L", b"S"))
        )
    elif how == 4:
        target = chance.choice((*(data[at : at + 100] for at in heads), b"../..", b"/", b"sys"))
        head = _with_field(_with_field(head, 157, target.ljust(100, b"\0")), 156, b"2")
    else:
        at, length = chance.choice(((0, 100), (100, 8), (124, 12), (157, 100), (345, 155)))
        field = _data(_tokens(_text(head[at : at + length].rstrip(b"\0")), words, chance))
        head = _with_field(head, at, field[:length].ljust(length, b"\0"))
    return data[:begin] + head + data[begin + _BLOCK :]


def _with_field(head: bytes, at: int, field: bytes) -> bytes:
    head = head[:at] + field + head[at + len(field) :]
    total = sum(head[:148]) + sum(head[156:]) + 8 * ord(" ")
    return head[:148] + b"%06o\0 " % total + head[156:]


_SHAPES: dict[str, Mutator] = {
    "bytes": _bytes,
    "plain": _plain,
    "lines": _lines,
    "settings": _settings,
    "xml": _xml,
    "json": _json,
    "tar": _tar,
}
