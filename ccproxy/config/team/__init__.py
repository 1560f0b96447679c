"""The settings of a team's gateway: its users, sign-in and certificate."""
