"""
The benchmark: the cost of ccproxy next to a bare relay and to other proxies, in one run.

`python -m bench` (or `make bench`) starts a scripted upstream and all targets, plays each scenario
on every target in turn, and prints medians and ratios. The main figure is the CPU time of the
target's process tree per request or per streamed chunk, read from the kernel's CPU clock of each
process. Wall-clock figures are comparable only within one run. Linux only.

    payloads   the requests that a client sends
    upstream   the provider: a separate process that sends prepared bytes
    relay      the lower bound: an aiohttp relay that converts nothing
    targets    the measured processes: starting and stopping them
    peers      installing and configuring other proxies
    clocks     CPU time and memory of a process tree
    load       the client: connections that keep a target busy
    scenarios  the measurements, and the code that takes one sample
    fleet      start-up, memory of many workers, commands
    report     tables and JSON
"""
