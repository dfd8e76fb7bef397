"""The manifests that install taskctl on a cluster: plain data, made by pure functions."""
