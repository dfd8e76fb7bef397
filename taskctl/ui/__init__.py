"""The page: the tree of tasks in a browser, live or as one file.

``model`` turns Tasks into rows, ``feed`` tells each browser what changed, ``guard`` decides who
may ask, ``server`` answers, ``report`` puts it all in one file. ``static`` holds what the browser
runs: plain ES modules, which are served as they stand.
"""
