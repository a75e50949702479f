"""Work in the background: the queue, the tasks, and what they report."""
