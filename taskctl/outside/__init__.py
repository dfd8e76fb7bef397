"""Python from outside: submit tasks, await their results, look at them, from any program.

What people use of it is in :mod:`taskctl` itself: ``taskctl.Client``, ``taskctl.SyncClient``,
``taskctl.Executor``, ``taskctl.local`` and ``taskctl.run_here``. See docs/python-client.md.
"""
