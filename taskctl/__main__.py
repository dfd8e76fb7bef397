"""``python -m taskctl``, and the ``taskctl`` script."""

from __future__ import annotations


def main() -> None:
    """Run the command line; does not return."""
    from taskctl.cli.app import build_app

    build_app()(prog_name="taskctl")


if __name__ == "__main__":
    main()
