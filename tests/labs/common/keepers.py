"""Keepers in a lab, for tests and proofs: started, waited for, ended, and killed."""

import contextlib

SETTINGS = b"[keeper]\nown_cpu_share = 1\nround_s = 1\n"
"""An emulated cpu is some fifty times slower than a real one, for which it is not to wait."""

_START = """
cd /root; rm -f keep.log
(setsid sh -c 'echo $$ >keep.pid; exec homenode keep --config keeper.toml "$@"' keep {options} \\
  >keep.log 2>&1 </dev/null &)
until grep -q '{word}' keep.log 2>/dev/null; do sleep 0.2; done
"""
_END = (
    "cd /root; kill $(cat keep.pid); while kill -0 $(cat keep.pid) 2>/dev/null; do sleep 0.2; done"
)


def start(lab, word="^start", *, options="", settings=SETTINGS):
    """Start a keeper, and wait until it has told a line with `word`."""
    lab.put(settings, "/root/keeper.toml")
    lab.run(_START.format(word=word, options=options), timeout_s=900, check=True)


def until_told(lab, word, *, count=1, timeout_s=180):
    """Wait until the keeper has told so many lines with `word`."""
    told = f"[ $(grep -c '{word}' /root/keep.log) -ge {count} ]"
    lab.run(f"until {told}; do sleep 0.2; done", timeout_s=timeout_s, check=True)


def told_by(lab):
    """Return what the keeper has told so far."""
    return lab.run("cat /root/keep.log", check=True).stdout


def end(lab):
    """End the keeper, and wait until it has."""
    lab.run(_END, timeout_s=300)


@contextlib.contextmanager
def keeping(lab, word="^start"):
    """Have a keeper at work, which has told a line with `word`; yields what tells all lines."""
    start(lab, word)
    try:
        yield lambda: told_by(lab)
    finally:
        end(lab)
