"""`python -m agent_cli`: `wws`, also where the script is not installed."""

from agent_cli.app import main

if __name__ == "__main__":
    main()
