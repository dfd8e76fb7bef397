"""taskctl-init as a black box: a real process, a fake agent."""
