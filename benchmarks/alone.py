"""One run in a process of its own: `python -m benchmarks.alone RUN FOLDER [plain]` prints its start and its memory as JSON."""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    started = float(os.environ["BENCH_START"])
    run, folder, plain = sys.argv[1], Path(sys.argv[2]), "plain" in sys.argv[3:]
    before = time.time()
    from mambarec.base import start  # noqa: F401, I001  what is set for the process before torch is there
    import torch  # noqa: F401

    torch_seconds = time.time() - before
    from benchmarks.workloads import Steps
    from mambarec.base.memory import process_peak_mb, return_freed_memory

    if plain:
        return_freed_memory()
    steps = Steps(run, folder, plain)
    steps()
    first_step = time.time() - started
    for _ in range(2):
        steps()
    print(json.dumps({"first_step": first_step, "import_torch": torch_seconds, "peak_mb": process_peak_mb()}))


if __name__ == "__main__":
    main()
