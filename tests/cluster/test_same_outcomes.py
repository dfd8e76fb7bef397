"""The cases of the local stack, word for word, on a real kubelet: they must end alike."""

from tests.embedded.test_outcomes import *  # noqa: F403
