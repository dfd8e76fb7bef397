"""The demos that join, and the one in YAML: the local stack's cases, on a real kubelet."""

import pytest

from tests.embedded.test_demos import test_demo
from tests.embedded.test_graphs import test_a_graph_in_one_object as test_pipeline
from tests.embedded.test_results import test_quicksort

__all__ = ["test_demo", "test_pipeline", "test_quicksort"]

pytestmark = pytest.mark.timeout(300)
