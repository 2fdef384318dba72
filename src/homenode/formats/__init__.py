"""Text in, model out, and back: pure functions, without files, processes or sockets."""
