"""The SDK against a small fake agent."""
