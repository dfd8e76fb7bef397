"""What is measured: one list, from which metrics, their page, alerts and dashboard are made."""
