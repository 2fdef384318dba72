"""``/etc/homenode/homenode.toml``, and what changes it: ``homenode.d/*.toml``, in their order.

A setting that is stated twice is as the later file says; what neither says is as homenode has it.
Unknown keys are errors. ``HOMENODE_CONFIG`` names another file than that in ``/etc``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from homenode.errors import HomenodeError, ParseError
from homenode.formats.table import Table
from homenode.formats.toml_text import document
from homenode.keeper.settings import NUMBERS, Settings

PATH = "/etc/homenode/homenode.toml"
_LARGEST = 1 << 20
_TABLES = ("keeper",)
_TEXTS = ("connect", "metrics")


class KeeperConfiguration(NamedTuple):
    """What is configured of the keeper, and by `sources` from which file each setting is."""

    settings: Settings = Settings()
    connect: str | None = None
    metrics: str | None = None
    sources: Mapping[str, str] = {}


def keeper_configuration(path: str | None = None) -> KeeperConfiguration:
    """Read the file at `path` and its drop-ins; without one, that which is named, or `PATH`.

    Raises `ParseError` for what is unknown or out of range, `HomenodeError` for a file that was
    named and is not there.
    """
    named = path or os.environ.get("HOMENODE_CONFIG")
    there = named or PATH
    values: dict[str, float] = {}
    texts: dict[str, str] = {}
    sources: dict[str, str] = {}
    for file in [there, *_drop_ins(there)]:
        text = _text(file)
        if text is None:
            if file == there and named:
                raise HomenodeError(f"{file}: there is no such file", hint="--config FILE names it")
            continue
        for key, value in _stated(text, file):
            sources[key] = file
            if isinstance(value, str):
                texts[key] = value
            else:
                values[key] = value
    settings = Settings()._replace(**values)
    return KeeperConfiguration(settings, texts.get("connect"), texts.get("metrics"), sources)


def _drop_ins(path: str) -> list[str]:
    folder = Path(path.removesuffix(".toml") + ".d")
    return sorted(map(str, folder.glob("*.toml")))


def _text(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ParseError(f"is longer than {_LARGEST >> 10} KiB", source=path)
        return content.decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ParseError(f"byte {error.start} is not UTF-8", source=path) from None
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None


def _stated(text: str, path: str) -> list[tuple[str, float | str]]:
    whole = Table(document(text, source=path), _TABLES, path="", source=path)
    if "keeper" not in whole:
        return []
    keeper = whole.table("keeper", (*NUMBERS, *_TEXTS))
    stated: list[tuple[str, float | str]] = []
    for key, number in NUMBERS.items():
        value = keeper.value(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise keeper.error(key, f"a number is wanted, not {value!r:.40}")
        if not number.least <= value <= number.most:
            raise keeper.error(key, f"not from {number.least:g} to {number.most:g}")
        stated.append((key, float(value)))
    stated += [(key, value) for key in _TEXTS if (value := keeper.maybe_text(key)) is not None]
    return stated
