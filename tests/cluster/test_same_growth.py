"""The local stack's cases of growing graphs, word for word, on a real kubelet."""

from tests.embedded.test_growth import *  # noqa: F403
