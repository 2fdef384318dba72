"""Completion for shells: what may stand where, and that as the code of a shell."""
