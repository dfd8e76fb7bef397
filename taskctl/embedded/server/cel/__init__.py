"""CEL, the language of ``x-kubernetes-validations``: syntax, checks, evaluation and cost.

After cel-go and k8s.io/apiserver ``pkg/cel``; decision record 0015 says why it is written here.
Rules see values and a schema's nodes; they never see the store.
"""
