"""Controller machinery that knows no kind: store, informer, work queue, controller loop, events."""
