"""Several processes that serve as one: a supervisor, and workers that share its listening socket."""
