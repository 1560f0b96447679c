"""
The load rig: what ccproxy costs, beside limits and peers, measured in one run.

`python -m bench` (or `make bench`) starts a scripted upstream and everything that is compared,
plays one scenario after the other on each of them in turn, and prints medians and ratios. The
figure to trust is CPU time: of the target's whole process tree, read from the kernel's clock of
each process, per request or per streamed chunk.
Wall-clock figures compare only inside one run. Linux only.

    payloads   the requests that a client sends
    upstream   the provider: a process of its own that sends bytes written beforehand
    relay      the limit: an aiohttp relay that converts nothing
    targets    starts and stops what is measured
    peers      how other proxies are installed and set up
    clocks     CPU time and memory of a process tree
    load       the client: connections that keep a target busy
    scenarios  what is measured, and how one sample of it is taken
    fleet      start-up, memory of many workers, commands
    report     tables and JSON
"""
