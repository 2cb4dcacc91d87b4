//! Host names: the canonical host of a commit, and the aliases of its refs.
