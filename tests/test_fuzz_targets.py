"""The targets of the fuzzer without the fuzzer: what they begin with, what was found, and more.

``make fuzz`` looks for what nobody has thought of; here it is seen that the table of targets works,
that nothing which was found has come back, and that no parser is left out.
"""

from pathlib import Path
from random import Random

import pytest
from fuzz import oracle, seeds
from fuzz.all_targets import all_targets
from fuzz.mutation import mutate

from homenode.errors import HomenodeError, ParseError

ROOT = Path(__file__).parent.parent

TARGETS = all_targets()
MUTATIONS = 60
SOURCE = ROOT / "src" / "homenode"
CRASHERS = sorted(path for path in seeds.CRASHERS.glob("*/*") if path.is_file())

NO_PARSERS = {
    "formats.doubts": "notes about a host that was read",
    "formats.described": "what the readers of machines share; they go through it",
}
"""Modules of ``formats`` that are given nothing from outside."""


@pytest.mark.parametrize("name", TARGETS)
def test_where_inputs_begin_and_what_is_made_of_them_is_read_or_refused(name):
    target = TARGETS[name]
    first = list(target.seeds())
    accepted = [oracle.check(target, data) for data in first]
    assert any(accepted), "a target that refuses all it begins with looks at nothing"
    chance = Random(name)  # noqa: S311 - the same in every run
    for _ in range(MUTATIONS):
        data = mutate(
            target.shape or "plain", chance.choice(first), first, target.dictionary, chance
        )
        oracle.check(target, data)


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_stays_mended(path):
    oracle.check(TARGETS[path.parent.name], path.read_bytes())


def test_every_parser_has_a_target():
    covered = {module for target in TARGETS.values() for module in target.covers}
    formats = {f"formats.{path.stem}" for path in (SOURCE / "formats").glob("[!_]*.py")}
    assert formats - covered - NO_PARSERS.keys() == set()
    for module in covered:
        assert (SOURCE / f"{module.replace('.', '/')}.py").is_file(), module


def test_the_oracle_tells_a_complaint_from_a_defect():
    def read(data):
        if data == b"good":
            return
        if data == b"two lines":
            raise ParseError("a\nb")
        if data == b"bad":
            raise HomenodeError("bad")
        raise ValueError(data)

    target = TARGETS["units"]._replace(read=read)
    assert oracle.check(target, b"good")
    assert not oracle.check(target, b"bad")
    with pytest.raises(oracle.Defect, match="not one line"):
        oracle.check(target, b"two lines")
    with pytest.raises(ValueError, match="else"):
        oracle.check(target, b"else")


def test_the_table_in_the_documents_has_every_target_and_what_was_found():
    text = (ROOT / "docs" / "trust.md").read_text().partition("| target |")[2]
    rows = [line.strip("| ").split(" | ") for line in text.partition("\n\n")[0].splitlines()[2:]]
    inputs = {row[0]: int(row[1].replace(",", "")) for row in rows}
    assert inputs.pop("all") == sum(inputs.values())
    assert inputs.keys() == TARGETS.keys()
    found = {row[0]: int(row[-1]) for row in rows if int(row[-1])}
    assert found.pop("all") == len(CRASHERS) == sum(found.values())
