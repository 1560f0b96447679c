"""What a gateway tells its users."""
