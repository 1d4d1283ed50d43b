"""Run by test_house.py: imports each module of wavestill in a process that holds none of it.

Usage: ``python imports_alone.py PRELOAD MODULE...``. PRELOAD is a comma-separated list of
third-party packages, imported once and inherited by every fork. Prints one JSON line per module:
its name, its error if any, and the packages that its import brought in.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback


def outermost() -> set[str]:
    """What has been imported: top-level packages, and two levels of wavestill."""
    depths = {name: 2 if name.startswith("wavestill.") else 1 for name in sys.modules}
    return {".".join(name.split(".")[:depth]) for name, depth in depths.items()}


def report(module: str) -> dict[str, object]:
    before = outermost()
    error = None
    try:
        importlib.import_module(module)
    except BaseException:
        error = traceback.format_exc(limit=-1)
    return {"module": module, "error": error, "imported": sorted(outermost() - before)}


def main() -> None:
    preload, *modules = sys.argv[1:]
    for name in filter(None, preload.split(",")):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for module in modules:
        child = os.fork()
        if child == 0:
            sys.stdout.write(json.dumps(report(module)) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
