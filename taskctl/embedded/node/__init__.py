"""The local node: does for pods what a kubelet does, with processes.

Each container is one process under a ``shim`` (``taskctl/init/shim``), which gives it a private
view of the host's files and outlives the node. What the node must remember is on disk below
``<data>/pods``, so a node that was killed takes its running containers over.

In the order of data: :mod:`.api` watches pods; :mod:`.manager` keeps one :mod:`.worker` per pod;
:mod:`.decide` says what to start and stop, :mod:`.starter` prepares it (:mod:`.env`,
:mod:`.volumes`, :mod:`.mounts`), :mod:`.instance` runs it, :mod:`.status` says what became of
it. Decisions and translations are pure functions. Nothing here knows taskctl.
"""
