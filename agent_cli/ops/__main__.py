"""`python -m agent_cli.ops`: `wws-ops` for programs that know this Python, and not where its scripts are."""

from __future__ import annotations

from agent_cli.ops.app import main

if __name__ == "__main__":
    main()
