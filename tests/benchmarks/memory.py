"""What a second worker costs that has the same model, by how it came by it.

    python tests/benchmarks/memory.py

A forest of 270 MB in two processes: each loads it, each maps joblib's file of it, or both were forked from one that had
it. Prints the proportional set size of each in MB: what is shared counts by parts.
"""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.ensemble import RandomForestRegressor


def main() -> None:
    """Print a line for each way."""
    data = np.random.default_rng(1).normal(size=(60_000, 10))
    with tempfile.TemporaryDirectory() as folder:
        plain, mapped = Path(folder, "model.pkl"), Path(folder, "model.joblib")
        if (maker := os.fork()) == 0:  # a process that never had it has nothing of it
            model = RandomForestRegressor(n_estimators=50, random_state=0, n_jobs=-1).fit(data, data.sum(axis=1))
            model.set_params(n_jobs=1)
            plain.write_bytes(pickle.dumps(model))
            joblib.dump(model, mapped)
            os._exit(0)
        os.waitpid(maker, 0)
        print(f"{plain.stat().st_size / 1e6:.0f} MB of files; MB of each of two processes:")
        few = data[:5000]
        _two("no model", lambda: None, few)
        _two("each loads it", lambda: pickle.loads(plain.read_bytes()), few)
        _two("each maps it", lambda: joblib.load(mapped, mmap_mode="r"), few)
        model = pickle.loads(plain.read_bytes())
        _two("loaded before the fork", lambda: model, few)
        gc.freeze()
        _two("the same, frozen", lambda: model, few)


def _two(name: str, load: Callable[[], Any], rows: Any) -> None:
    near, far = os.pipe()
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            model = load()
            if model is not None:
                model.predict(rows)
            gc.collect()  # as Spark does between two tasks
            time.sleep(3)
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            size = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            os.write(far, f"{size / 1024:>6.0f}".encode())
            time.sleep(2)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    print(f"{name:>24}{os.read(near, 100).decode()}")


if __name__ == "__main__":
    main()
