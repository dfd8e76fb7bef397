"""The one door to Kubernetes, for a client and for a controller.

Here live requests, authentication, lists and watches, and what a controller is made of:
informer, store, work queue, controller, lease, Events, manager. Nothing here knows what the program
is for that uses it: no kind of its own, no label, no name of a product.
"""
