"""Value and gradient of one scalar graph, side by side in several engines: `python -m benchmarks`.

What is compared: the same elementary operations in the same order on the same float64 numbers. An *operation* is
one elementary operation of the workload as it is written down (counted by running it on floats that count), the
same number for every engine, however many nodes an engine records for it: micrograd writes a - b as a + b * -1.

How: every measurement is a process of its own with one engine in it, A B C A B C ... in rounds, so that a busy
machine hits all engines alike. A process warms up, then repeats steps for at least 0.3 s; its figure is time /
steps, not the median step, which would hide the pauses of the garbage collector. The report shows medians over the
rounds, with minimum and maximum; a ratio is taken within each round first. `--clock cpu` counts processor time, for
machines that are busy with other work.

What a step is: zero the grads, build the graph (forward), backward, read loss and gradient as floats, *drop* the
graph. With Python's default garbage collection the drop is timed, and nothing is collected by hand: graphs that are
reference cycles (micrograd's) are collected during later steps, which pay for it, as in real training. With gc off,
cycles are collected by hand between steps and not timed, which favours engines that make them.

Every process also returns loss and gradient: the run fails if two engines differ by more than 1e-9 relative, or a
loss from that of plain floats. `engines.py` says what had to be added to the peers, and the report repeats it.

`python -m benchmarks.compiled` measures functions that are prepared once and called often in the same way: processes,
rounds, checks. `benchmarks.programs` takes the parts of a recording apart and trains, `benchmarks.arrays` is about
array nodes; both let their engines take turns in one process.
"""
