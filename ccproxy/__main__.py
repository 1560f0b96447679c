"""The entry point of `python -m ccproxy` and of the `ccproxy` command."""

from ccproxy.cli.main import main

if __name__ == "__main__":
    main()
