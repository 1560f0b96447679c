"""`python -m ccproxy` and the `ccproxy` command."""

from ccproxy.cli.main import main

if __name__ == "__main__":
    main()
