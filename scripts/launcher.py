#!/usr/bin/env python3
"""The command ``taskctl`` of the container image, where no installer writes one."""

from taskctl.__main__ import main

main()
