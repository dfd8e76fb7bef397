"""taskctl's own loops: load a view from the store, ask a policy, apply its plan."""
