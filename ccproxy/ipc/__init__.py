"""Messages between the processes of a fleet; worker and supervisor both import them."""
