"""The command: one module for each verb; `main` only finds it."""
