"""Where every program of the artefact begins: it is the one that it is called by.

All files in `bin/` are the same program. A link with another name leads to the file that it points to.
"""

import os
import sys

PROGRAMS = {
    "wws": "agent_cli.app",
    "wws-connector": "wws.runtime.__main__",
    "wws-bootstrap": "bootstrap_node.__main__",
    "wws-control": "bootstrap_node.control",
}
RUN_MODULE = "--run-module"
"""As in wws/programs.py, which is not imported here: most starts can do without it."""
OURS = ("agent_cli", "bootstrap_node", "wws")


def main():
    restore_library_path()
    if sys.argv[1:2] == [RUN_MODULE] and len(sys.argv) > 2:
        run_module(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(import_module(PROGRAMS[program()]).main())


def program():
    """The name that we were called by, or else the name of the file that runs."""
    called = os.path.basename(sys.argv[0])
    if called in PROGRAMS:
        return called
    name = os.path.basename(sys.executable)
    return name if name in PROGRAMS else "wws"


def restore_library_path():
    """Let what we start look for its libraries where it always does, and not among ours.

    The bootloader puts our folder there, which is read by the dynamic linker when a process begins: we have
    what we need.
    """
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        before = os.environ.pop(f"{name}_ORIG", None)
        if before is not None:
            os.environ[name] = before
        elif os.environ.get(name) == getattr(sys, "_MEIPASS", None):
            os.environ.pop(name, None)


def run_module(module, arguments):
    """`python -m MODULE ARGUMENTS…`, for modules of ours and no others."""
    if module.partition(".")[0] not in OURS:
        sys.exit(f"{program()}: no module of ours: {module}")
    import runpy

    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def import_module(name):
    __import__(name)  # importlib.import_module, without importing importlib
    return sys.modules[name]


if __name__ == "__main__":
    main()
