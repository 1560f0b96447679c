"""The endpoints of a gateway: sign-in, settings and limits of its users."""
