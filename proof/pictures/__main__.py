"""``python -m proof.pictures [NAME...]``: draw the pictures of the book, all or some of them."""

import sys
from collections.abc import Iterator, Sequence
from itertools import chain

from proof.pictures import DOCS, hosts, policies, schedules, why
from proof.pictures.plots import Plot, is_drawn_from


def pictures() -> Iterator[tuple[str, str | Plot]]:
    """Yield all of them: a text, or what has one when it is asked for."""
    return chain(why.pictures(), policies.pictures(), hosts.pictures(), schedules.pictures())


def main(names: Sequence[str]) -> int:
    """Write the pictures that are other ones than those in docs/pictures."""
    folder = DOCS / "pictures"
    for name, picture in pictures():
        if names and name not in names:
            continue
        path = folder / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if isinstance(picture, str):
            text = picture
        elif is_drawn_from(before, picture.digest):
            text = before
        else:
            text = picture.draw()
        if text != before:
            path.write_text(text, encoding="utf-8")
        print(f"{name:<28} {'drawn' if text != before else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
