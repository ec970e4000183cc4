"""`python -m avem` is the `avem` command."""

from avem.cli import main

if __name__ == "__main__":
    main()
