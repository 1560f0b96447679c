"""
The fleet: derives the next action for every worker from the facts about it.

Decisions, without I/O or a clock:
    plan                facts -> phase and action, a pure table
    worker_slot         one position for a worker process, and its history
    converge            the loop: observe every slot, decide, act

Machine:
    host                starts workers, drains and signals them
    adoption            takes over the workers of an earlier supervisor
    health_probe        finds workers that run but do not respond
    unavailable_server  answers clients while a worker is in a crash loop
"""
