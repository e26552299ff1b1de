"""``python -m goldnas``, and what ``torchrun -m goldnas`` starts."""

from goldnas.cli.main import app

if __name__ == "__main__":
    app(prog_name="goldnas")
