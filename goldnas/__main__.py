"""The ``goldnas`` command, ``python -m goldnas``, and what ``torchrun -m goldnas`` starts."""

import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is being imported is one line, too."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed, and the next file would take its place
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
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
