"""The targets, a module for each family of what is read."""
