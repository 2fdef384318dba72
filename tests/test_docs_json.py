"""docs/json.md names the keys that the documents have, and no others."""

import json
import re
from pathlib import Path

import pytest

from homenode.cli.main import main

CAPTURE = Path(__file__).parent / "data" / "xen-captures" / "n4" / "guests"
DOCUMENT = (Path(__file__).parent.parent / "docs" / "json.md").read_text()


def described():
    """Return the documented keys by heading."""
    found = {}
    for section in DOCUMENT.split("\n## ")[1:]:
        heading = section.split("\n", 1)[0]
        found[heading] = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))
    return found


def replay(folder, capsys):
    """Return the document of a small replay."""
    pytest.importorskip("polars", reason="replays need polars")
    (folder / "fleet.toml").write_text('[[hosts]]\ncores = 2\nmemory = "4GiB"\n')
    trace = "time_s,event,guest,vcpus,memory_mib\n0,create,a,1,512\n9,delete,a,,\n"
    (folder / "trace.csv").write_text(trace)
    asked = [str(folder / "trace.csv"), "--fleet", str(folder / "fleet.toml"), "--policy", "pack"]
    main(["replay", *asked, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def documents(tmp_path, monkeypatch, capsys):
    """Return an example of every kind of document, by heading."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    monkeypatch.setenv("HOMENODE_CONFIG", str(tmp_path / "homenode.toml"))
    (tmp_path / "homenode.toml").write_text("[keeper]\nround_s = 0.2\n")
    (tmp_path / "host.toml").write_text('name = "small"\nnodes = 2\ncores = 2\nmemory = "4GiB"\n')
    (tmp_path / "web.cfg").write_text('name = "web"\nmemory = 1024\nvcpus = 1\n')
    (tmp_path / "big.cfg").write_text('name = "big"\nmemory = 9000\nvcpus = 1\n')
    host = f"sim:small?host={tmp_path / 'host.toml'}"

    def run(verb, *arguments):
        main([verb, "-c", host, "--json", *arguments])
        return json.loads(capsys.readouterr().out)

    decision = run("place", str(tmp_path / "web.cfg"))
    refusal = run("explain", str(tmp_path / "big.cfg"))
    created = run("create", str(tmp_path / "web.cfg"))
    listed = run("list")
    main(["check", "-c", f"capture:{CAPTURE}", "--json"])
    found = json.loads(capsys.readouterr().out)
    main(["keep", "-c", "sim:small", "--once", "--dry-run", "--json"])
    event = json.loads(capsys.readouterr().out.splitlines()[0])
    chosen = run("place", "-c", "sim:small", str(tmp_path / "web.cfg"))
    replayed = replay(tmp_path, capsys)
    measured = ["--guest", str(tmp_path / "web.cfg"), "--measure", "echo 1", "--runs", "1"]
    taxed = run("tax", *measured, "--beside-guests")
    simulated = run("simulate", "--now", "--busy", "1", "--duration", "100ms", "--seeds", "1")
    return {
        "decision": decision,
        "share": decision["memory"][0],
        "candidate": decision["candidates"][0],
        "remedy": refusal["remedies"][0],
        "created": created["guests"][0],
        "guest": listed["guests"][1],
        "claim": run("claims")["claims"][0],
        "affinity": run("affinity", "web", "1"),
        "explained": run("explain", "web"),
        "finding": found["findings"][0],
        "snapshot": run("topology"),
        "simulated": simulated,
        "chosen over several hosts": chosen,
        "replayed": replayed,
        "replayed row": replayed["rows"][0],
        "variant": simulated["variants"][0],
        "diagnosis": run("doctor")["findings"][0],
        "setting": run("doctor", "--settings")["settings"][0],
        "event": event,
        "tax": taxed,
        "taxed case": taxed["results"][0],
        "look": run("top", "--once", "--interval", "0.1"),
    }


def test_every_key_is_documented_and_every_documented_key_is_there(documents):
    assert {heading: set(found) for heading, found in documents.items()} == described()
