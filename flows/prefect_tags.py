"""The tags that tell our flow runs from others on the same Prefect server."""

OURS = "eureka"  # every flow run of ours: it sends heartbeats, so silence means that it is dead
NIGHTLY = "eureka-nightly"  # nights of a schedule: begun again when they crash
BY_HAND = "eureka-run"  # runs outside nights, nights begun by hand: told of, but not begun again
