"""Run inputs through a target without atheris.

python -m fuzz.replay TARGET FILE...
"""

import sys
import time
from pathlib import Path

from fuzz.all_targets import all_targets
from fuzz.oracle import check


def main(words: list[str]) -> int:
    """Run the files through the target; what is a defect ends in its traceback."""
    target = all_targets()[words[0]]
    for name in words[1:]:
        started = time.process_time()
        answer = "accepted" if check(target, Path(name).read_bytes()) else "refused"
        print(f"{name}: {answer}, {time.process_time() - started:.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
