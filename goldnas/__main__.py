"""The ``goldnas`` command, ``python -m goldnas``, and what ``torchrun -m goldnas`` starts."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is being imported is one line, too."""
    try:
        from goldnas.cli import streams

        streams.prepare_streams()
        from goldnas.cli.main import app
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    try:
        try:
            app(prog_name="goldnas")
        finally:
            sys.stdout.flush()
    except (streams.OutputLostError, BrokenPipeError) as error:
        streams.end_without_output(error)


if __name__ == "__main__":
    main()
