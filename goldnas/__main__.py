"""The ``goldnas`` command, ``python -m goldnas``, and what ``torchrun -m goldnas`` starts."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is being imported is one line, too."""
    try:
        from goldnas.cli.main import app
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    app(prog_name="goldnas")


if __name__ == "__main__":
    main()
