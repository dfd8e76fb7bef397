"""Where tasks run: the decisions on workers, slots and the queue, as plain data in, plan out.

Nothing in here waits, writes, logs or looks at a clock; whoever calls brings the time.
"""
