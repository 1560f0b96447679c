"""Where the state of a pool is: in this process, in shared memory, or in Redis (`worker/redis`)."""
