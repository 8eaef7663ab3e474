"""SIGKILL to one worker that writes under the folder named, as soon as the first teacher is there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def workers(folder: str) -> list[int]:
    """Processes with a rank whose command line names the folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            named = folder.encode() in (process / "cmdline").read_bytes()
            if (
                process.name.isdigit()
                and named
                and b"\0RANK=1\0" in b"\0" + (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def main() -> None:
    folder, until = sys.argv[1], time.monotonic() + 300
    while time.monotonic() < until:
        if list(Path(folder).rglob("teacher_*.safetensors")) and (ranks := workers(folder)):
            os.kill(ranks[0], signal.SIGKILL)
            print("killed")
            return
        time.sleep(0.01)
    print("nothing to kill")


if __name__ == "__main__":
    main()
