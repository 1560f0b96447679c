"""The settings of a team gateway: its users, sign-in and certificate."""
