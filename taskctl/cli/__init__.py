"""The ``taskctl`` command: arguments in, calls out, exit codes; heavy imports inside commands."""
