"""The one door to Kubernetes: requests, authentication, list and watch, errors."""
